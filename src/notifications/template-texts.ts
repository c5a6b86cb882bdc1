/** The sentences themselves: one template or more for each type of notification. */
import { z } from 'zod'
import { defineTemplate, identifier, link, preview, words, type Rendered, type Template } from './template.ts'

const chatUrl = (conversationId: string) => `/conversations/${encodeURIComponent(conversationId)}`

/** The steps of an assessment are one row that moves: the same `dedupe_key` for all of them, and `progress` grows. */
function assessmentStep(step: {
  stage: string
  progress?: number
  title: string
  body: string
  priority: Rendered['priority']
  channels: Rendered['channels']
  icon?: string
  color?: string
  label?: string
}): Template {
  const { stage, progress, label, icon = 'chart', color = '#3b6ef5', ...told } = step
  return defineTemplate({
    ...told,
    name: stage,
    type: 'assessment_progress',
    icon,
    color,
    variables: z.strictObject({
      assessment_id: identifier('The assessment that moved.'),
      conversation_id: identifier('The conversation about it, where there is one.').optional(),
    }),
    ...(progress !== undefined && { progress }),
    data: (values) => ({ stage, ...(progress !== undefined && { progress }), ...values }),
    action: ({ assessment_id }) =>
      label === undefined
        ? null
        : { type: 'redirect', label, url: `/assessment/${encodeURIComponent(assessment_id)}/results` },
  })
}

const conversation = {
  conversation_id: identifier('Where it was said.'),
  message_id: identifier('What was said.'),
}

const optionalAction = (url: string | undefined, label: string) => (url === undefined ? null : { label, url })

export const templates: readonly Template[] = [
  assessmentStep({
    stage: 'assessment_submitted',
    progress: 25,
    title: 'Your answers are in',
    body: 'Thank you for taking the time. We begin to look at them right away.',
    priority: 'low',
    channels: ['in_app'],
  }),
  assessmentStep({
    stage: 'analysis_started',
    progress: 50,
    title: 'We are reading your answers',
    body: 'Your strengths and interests are taking shape. This takes a few minutes.',
    priority: 'low',
    channels: ['in_app'],
  }),
  assessmentStep({
    stage: 'analysis_complete',
    progress: 75,
    title: 'Your results are here',
    body: 'Have a look at what we found. Your adviser is getting ready to talk about it.',
    priority: 'medium',
    channels: ['in_app'],
    label: 'See your results',
  }),
  assessmentStep({
    stage: 'chatbot_ready',
    progress: 100,
    title: 'Your adviser is ready',
    body: 'Your adviser knows your results and has a few questions to begin with. Come and talk.',
    priority: 'high',
    channels: ['in_app', 'web_push', 'email', 'webhook'],
    icon: 'sparkles',
    color: '#1f9d61',
    label: 'Talk about your results',
  }),
  assessmentStep({
    stage: 'analysis_failed',
    title: 'Your results need another try',
    body: 'Something went wrong while we looked at your answers. They are safe: you can start again from your results page.',
    priority: 'high',
    channels: ['in_app', 'web_push', 'webhook'],
    icon: 'alert',
    color: '#d64545',
    label: 'Try again',
  }),
  defineTemplate({
    name: 'chat_message',
    type: 'chat_message',
    title: '{{sender_name}} wrote to you',
    body: '{{message_preview}}',
    icon: 'chat',
    color: '#3b6ef5',
    priority: 'high',
    channels: ['in_app', 'web_push', 'webhook'],
    variables: z.strictObject({
      ...conversation,
      sender_name: words(100, 'Who wrote.'),
      message_preview: preview('What they wrote'),
    }),
    data: (values) => values,
    action: ({ conversation_id }) => ({ label: 'Read and reply', url: chatUrl(conversation_id) }),
  }),
  defineTemplate({
    name: 'conversation_message',
    type: 'chat_message',
    title: 'New in “{{conversation_title}}”',
    body: '{{message_preview}}',
    icon: 'chat',
    color: '#3b6ef5',
    priority: 'medium',
    channels: ['in_app', 'web_push', 'webhook'],
    variables: z.strictObject({
      ...conversation,
      conversation_title: words(255, 'Its title.'),
      message_preview: preview('What was said'),
    }),
    data: (values) => values,
    action: ({ conversation_id }) => ({ label: 'Read it', url: chatUrl(conversation_id) }),
  }),
  defineTemplate({
    name: 'generation_finished',
    type: 'generation_finished',
    title: 'Your answer is ready',
    body: 'There is a new answer for you in “{{conversation_title}}”.',
    icon: 'check',
    color: '#1f9d61',
    priority: 'medium',
    channels: ['in_app', 'web_push', 'webhook'],
    variables: z.strictObject({ ...conversation, conversation_title: words(255, 'Its title.') }),
    data: (values) => values,
    action: ({ conversation_id }) => ({ label: 'Read the answer', url: chatUrl(conversation_id) }),
  }),
  defineTemplate({
    name: 'generation_failed',
    type: 'generation_failed',
    title: 'That answer did not work out',
    body: 'We could not finish the answer in “{{conversation_title}}”. Your question is still there: one click asks it again.',
    icon: 'alert',
    color: '#d64545',
    priority: 'medium',
    channels: ['in_app', 'web_push', 'webhook'],
    variables: z.strictObject({ ...conversation, conversation_title: words(255, 'Its title.') }),
    data: (values) => values,
    action: ({ conversation_id }) => ({ label: 'Ask again', url: chatUrl(conversation_id) }),
  }),
  defineTemplate({
    name: 'recommendation',
    type: 'recommendation',
    title: 'An idea for you: {{subject}}',
    body: '{{reason}}',
    icon: 'compass',
    color: '#8a5cf6',
    priority: 'low',
    channels: ['in_app', 'email'],
    variables: z.strictObject({
      subject: words(120, 'What is recommended: a career, a course, a next step.'),
      reason: words(1_000, 'Why it suits this person.'),
      url: link().optional(),
    }),
    data: ({ subject }) => ({ subject }),
    action: ({ url }) => optionalAction(url, 'Find out more'),
  }),
  defineTemplate({
    name: 'reminder',
    type: 'reminder',
    title: 'A reminder: {{subject}}',
    body: '{{note}}',
    icon: 'bell',
    color: '#e0a100',
    priority: 'medium',
    channels: ['in_app', 'web_push', 'email'],
    variables: z.strictObject({
      subject: words(120, 'What not to forget.'),
      note: words(1_000, 'What there is to know about it.'),
      url: link().optional(),
    }),
    data: ({ subject }) => ({ subject }),
    action: ({ url }) => optionalAction(url, 'Open'),
  }),
  defineTemplate({
    name: 'announcement',
    type: 'announcement',
    title: '{{headline}}',
    body: '{{text}}',
    icon: 'megaphone',
    color: '#3b6ef5',
    priority: 'low',
    channels: ['in_app'],
    variables: z.strictObject({
      headline: words(150, 'What is new.'),
      text: words(2_000, 'What it means for the reader.'),
      url: link().optional(),
    }),
    action: ({ url }) => optionalAction(url, 'Read more'),
  }),
  defineTemplate({
    name: 'system_notice',
    type: 'system',
    title: '{{headline}}',
    body: '{{text}}',
    icon: 'gear',
    color: '#5a6478',
    priority: 'medium',
    channels: ['in_app'],
    variables: z.strictObject({
      headline: words(150, 'What happens.'),
      text: words(2_000, 'What the reader has to know or to do.'),
      url: link().optional(),
    }),
    action: ({ url }) => optionalAction(url, 'Read more'),
  }),
  defineTemplate({
    name: 'new_sign_in',
    type: 'security',
    title: 'New sign-in to your account',
    body: 'Somebody signed in with {{device}}, {{place}}. If that was you, all is well. If not, please change your password now.',
    icon: 'shield',
    color: '#d64545',
    priority: 'critical',
    channels: ['in_app', 'web_push', 'email', 'webhook'],
    variables: z.strictObject({
      device: words(120, 'Browser and system, in words.'),
      place: words(120, 'Where, as far as known, such as “near Bandung”.'),
      url: link().optional(),
    }),
    data: ({ device, place }) => ({ device, place }),
    action: ({ url }) => optionalAction(url, 'Check your account'),
  }),
  defineTemplate({
    name: 'security_notice',
    type: 'security',
    title: '{{headline}}',
    body: '{{text}}',
    icon: 'shield',
    color: '#d64545',
    priority: 'critical',
    channels: ['in_app', 'web_push', 'email', 'webhook'],
    variables: z.strictObject({
      headline: words(150, 'What happened.'),
      text: words(2_000, 'What the reader has to do.'),
      url: link().optional(),
    }),
    action: ({ url }) => optionalAction(url, 'Check your account'),
  }),
]
