/** Door of assessments: what a model is asked for as a welcome, in place of a person's question. */
import type { Language } from './language.ts'

/** The results themselves stand in the system part, as data. */
export const welcomeInstruction = (language: Language): string => instructions[language]

const instructions: Record<Language, string> = {
  en: [
    'Write the welcome message with which this conversation begins. The person has just finished the assessment, and has not said anything yet.',
    'Greet them warmly in one sentence. Then give 2 to 3 key insights from the results in the data above, each in one or two sentences that say what it means for work.',
    'End with exactly 3 questions that this person could ask you next, in the first person, one on each line, written as `- …?`, with nothing behind them.',
    'Write in English, at most 180 words, with light Markdown. Use only what the data says: invent no facts, scores or names, and leave out what is not there.',
  ].join('\n'),
  id: [
    'Tulis pesan sambutan yang membuka percakapan ini. Orang ini baru saja menyelesaikan tes dan belum mengatakan apa pun.',
    'Sapa dengan hangat dalam satu kalimat. Lalu sampaikan 2 sampai 3 hal terpenting dari hasil tes dalam data di atas, masing-masing dalam satu atau dua kalimat yang menjelaskan artinya bagi pekerjaan.',
    'Akhiri dengan tepat 3 pertanyaan yang bisa diajukan orang ini kepada Anda, dari sudut pandang “saya”, satu di setiap baris, ditulis sebagai `- …?`, tanpa apa pun sesudahnya.',
    'Tulis dalam bahasa Indonesia, paling banyak 180 kata, dengan Markdown ringan. Pakai hanya isi data: jangan mengarang fakta, skor, atau nama, dan lewati yang tidak ada.',
  ].join('\n'),
}
