/** Texts to measure tokens by: what people of many languages write to a counsellor, and what is no language. */
export const texts: Record<string, string> = {
  English:
    'I have worked in a warehouse for six years and would like to do something with people. My friends say that I explain things well, but I never finished my degree, and I am afraid of starting again at thirty-four. Which jobs would suit me, and what could I learn in the evenings?',
  German:
    'Ich arbeite seit sechs Jahren in einem Lager und möchte lieber etwas mit Menschen machen. Meine Freunde sagen, dass ich gut erklären kann, aber ich habe mein Studium nie abgeschlossen und fürchte mich davor, mit vierunddreißig noch einmal anzufangen. Welche Berufe würden zu mir passen, und was könnte ich abends lernen?',
  Spanish:
    'Llevo seis años trabajando en un almacén y me gustaría hacer algo con personas. Mis amigos dicen que explico bien las cosas, pero nunca terminé la carrera y me da miedo empezar de nuevo a los treinta y cuatro. ¿Qué trabajos me convendrían y qué podría aprender por las noches?',
  Indonesian:
    'Saya sudah bekerja di gudang selama enam tahun dan ingin melakukan sesuatu yang berhubungan dengan orang. Teman-teman saya bilang saya pandai menjelaskan sesuatu, tetapi saya tidak pernah menyelesaikan kuliah, dan saya takut memulai lagi di usia tiga puluh empat. Pekerjaan apa yang cocok untuk saya, dan apa yang bisa saya pelajari di malam hari?',
  Vietnamese:
    'Tôi đã làm việc trong kho hàng sáu năm và muốn làm điều gì đó với con người. Bạn bè nói rằng tôi giải thích rất tốt, nhưng tôi chưa bao giờ học xong đại học và sợ phải bắt đầu lại ở tuổi ba mươi tư. Công việc nào phù hợp với tôi, và tôi có thể học gì vào buổi tối?',
  Turkish:
    'Altı yıldır bir depoda çalışıyorum ve insanlarla ilgili bir iş yapmak istiyorum. Arkadaşlarım konuları iyi anlattığımı söylüyor ama üniversiteyi bitirmedim ve otuz dört yaşında yeniden başlamaktan korkuyorum. Bana hangi meslekler uyar ve akşamları ne öğrenebilirim?',
  Russian:
    'Я шесть лет работаю на складе и хотел бы заниматься чем-то, связанным с людьми. Друзья говорят, что я хорошо объясняю, но я так и не окончил институт и боюсь начинать заново в тридцать четыре года. Какие профессии мне подойдут и чему я мог бы учиться по вечерам?',
  Arabic:
    'أعمل في مستودع منذ ست سنوات وأود أن أعمل مع الناس. يقول أصدقائي إنني أشرح الأمور جيدًا، لكنني لم أكمل دراستي الجامعية وأخشى أن أبدأ من جديد في الرابعة والثلاثين. ما الوظائف التي تناسبني، وماذا يمكنني أن أتعلم في المساء؟',
  Hindi:
    'मैं छह साल से एक गोदाम में काम कर रहा हूँ और लोगों के साथ कुछ करना चाहता हूँ। मेरे दोस्त कहते हैं कि मैं चीज़ें अच्छी तरह समझाता हूँ, लेकिन मैंने अपनी पढ़ाई पूरी नहीं की और चौंतीस साल की उम्र में फिर से शुरू करने से डरता हूँ। मेरे लिए कौन से काम ठीक रहेंगे?',
  Thai: 'ฉันทำงานในคลังสินค้ามาหกปีแล้วและอยากทำอะไรที่เกี่ยวกับผู้คน เพื่อนของฉันบอกว่าฉันอธิบายเรื่องต่างๆ ได้ดี แต่ฉันเรียนไม่จบมหาวิทยาลัย และกลัวที่จะเริ่มต้นใหม่ตอนอายุสามสิบสี่ งานแบบไหนที่เหมาะกับฉัน และฉันจะเรียนอะไรในตอนเย็นได้บ้าง',
  Chinese:
    '我在仓库工作了六年，想做一些和人打交道的事情。朋友们说我很会解释问题，但我没有读完大学，也害怕三十四岁重新开始。什么样的工作适合我？晚上我可以学些什么？如果我先去做志愿者，会不会更容易知道自己喜欢什么？',
  Japanese:
    '倉庫で六年間働いていますが、人と関わる仕事がしたいです。友人には説明が上手だと言われますが、大学を卒業しておらず、三十四歳でやり直すのが怖いです。どんな仕事が私に向いていますか。夜に何を勉強できますか。',
  Korean:
    '저는 창고에서 육 년 동안 일했고 사람들과 함께하는 일을 하고 싶습니다. 친구들은 제가 설명을 잘한다고 하지만 대학을 졸업하지 못했고 서른네 살에 다시 시작하는 것이 두렵습니다. 어떤 직업이 저에게 맞을까요? 저녁에 무엇을 배울 수 있을까요?',
  TypeScript: `export async function readPage(tx: Tx, id: string, limit: number): Promise<Page> {
  const rows = await tx.execute<Row>(sql\`select * from items where id > \${id} limit \${limit + 1}\`)
  if (rows.length === 0) throw new AppError('not_found', { detail: 'There is no such page.' })
  return { items: rows.slice(0, limit).map(({ item_id: itemId }) => itemId), hasMore: rows.length > limit }
}`,
  JSON: '{"assessment_id":"7f3b1c02-6a58-4c7e-9a55-1f0f6f0f6c11","riasec":{"realistic":42.5,"investigative":88.1,"artistic":61,"social":93.75,"enterprising":30,"conventional":12.5},"ocean":[0.71,0.82,0.35,0.66,0.2],"created_at":"2026-03-04T05:06:07.089Z","archetype":null}',
  Markdown:
    '## Three ways forward\n\n1. **Training assistant**: you know the work, and can *show* it.\n2. **Social work** (part time):\n   - 2 evenings a week\n   - about 18 months\n\n| path | cost | time |\n| --- | --- | --- |\n| course | 900 € | 6 months |\n| degree | 0 € | 3 years |\n',
  Base64:
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg3q8Zt1LxKf0mWc7vYbT2nUe9RoHs5PzXiG4kJDwQyVNaBC6p8dOgFhtl',
  emoji: '😀😂🥲 I passed!! 🎉🎉🎊 👩‍👩‍👧‍👦 thank you 🙏🏽🙏🏽 ❤️‍🔥 see you 🇮🇩🇩🇪🇯🇵 👋🏾 🧑🏿‍🚀🚀✨ ok 👍🏼',
  digits:
    '3.14159265358979323846264338327950288419716939937510 0812-3456-7890 2026-03-04 17:45 4111 1111 1111 1111',
  table:
    'a,b,c,d\n1,2,3,4\n5,6,7,8\n-1,-2,-3,-4\n0.5,0.25,0.125,0.0625\nx;y;z\n[[1,2],[3,4]]\n{}{}()()!!??\n',
}
