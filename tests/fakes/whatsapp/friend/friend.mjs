// The friend's phone: Baileys, driven by lines of JSON.
//
// stdin:  {"n": 1, "do": "send", …}, one at a time, in order.
// stdout: {"event": "done", "n": 1, "result": …} or {"event": "failed", "n": 1, "error": …} for
//         each of them, and between them what happens: qr, open, closed, message, undecryptable,
//         typing, receipt, ack, group. Each line has `at`, milliseconds since 1970 with a fraction.
//
// Baileys is where CLAW_TEST_BAILEYS says. FRIEND_LOG=debug shows its log on stderr.

import { readFileSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

// Baileys' Signal library talks there, where only our lines belong.
console.log = console.info = console.warn = () => {}

const folder = process.env.CLAW_TEST_BAILEYS
if (!folder) throw new Error('CLAW_TEST_BAILEYS is not set: run tests/setup.sh')
const baileys = await import(pathToFileURL(`${folder}/node_modules/baileys/lib/index.js`))
const { BufferJSON, WA_CERT_DETAILS, initAuthCreds, jidNormalizedUser, makeWASocket, proto } = baileys

/** Stream error 515: pairing is over, log in. */
const RESTART_REQUIRED = 515
/** Messages that are kept for retries, quotes and edits. */
const KEPT_MAX = 5000

let socket
let settings
/** What outlives a connection: the device's own secrets and its sessions. */
let memory = { creds: initAuthCreds(), keys: {} }
/** id -> the whole message, sent or received. */
const known = new Map()
/** Ids that we have sent on this device. */
const sent = new Set()

function say(event, fields = {}) {
  const at = performance.timeOrigin + performance.now()
  process.stdout.write(JSON.stringify({ event, at, ...fields }) + '\n')
}

function keep(message) {
  known.set(message.key.id, message)
  if (known.size > KEPT_MAX) known.delete(known.keys().next().value)
}

// ---- What Baileys needs.

const level = process.env.FRIEND_LOG ?? 'silent'
const levels = ['trace', 'debug', 'info', 'warn', 'error', 'silent']
const logger = { level, child: () => logger }
for (const name of levels.slice(0, 5)) {
  logger[name] = (data, text) => {
    if (levels.indexOf(name) < levels.indexOf(level)) return
    console.error(name, typeof data === 'string' ? data : JSON.stringify(data), text ?? '')
  }
}

const keys = {
  get: async (type, ids) => {
    const all = memory.keys[type] ?? {}
    return Object.fromEntries(ids.filter(id => all[id] != null).map(id => [id, all[id]]))
  },
  set: async data => {
    for (const [type, values] of Object.entries(data)) {
      const all = (memory.keys[type] ??= {})
      for (const [id, value] of Object.entries(values)) {
        if (value == null) delete all[id]
        else all[id] = value
      }
    }
  }
}

/** Puts a blob where the test server keeps blobs. */
async function upload(path, { mediaType, fileEncSha256B64 }) {
  const name = fileEncSha256B64.replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
  const directPath = `/mms/${mediaType}/${name}`
  const url = `${settings.media ?? 'http://127.0.0.1:9'}${directPath}`
  if (settings.media) {
    const answer = await fetch(url, { method: 'POST', body: readFileSync(path) })
    if (!answer.ok) throw new Error(`${url}: ${answer.status}`)
  }
  return { mediaUrl: url, directPath }
}

// ---- What happens.

/** The inner message, whatever it is wrapped in. */
function inner(message) {
  for (;;) {
    const wrapper =
      message?.ephemeralMessage ?? message?.viewOnceMessage ?? message?.viewOnceMessageV2 ??
      message?.documentWithCaptionMessage ?? message?.deviceSentMessage
    if (!wrapper) return message ?? {}
    message = wrapper.message
  }
}

function describe(message) {
  const { key } = message
  const content = inner(message.message)
  const kinds = Object.keys(content).filter(name => content[name] != null)
  const kind = kinds.find(name =>
    name === 'conversation' || (name.endsWith('Message') && name !== 'senderKeyDistributionMessage'))
  const context = content[kind]?.contextInfo
  const edited = content.protocolMessage?.editedMessage
  return {
    id: key.id,
    chat: key.remoteJid,
    chat_alt: key.remoteJidAlt,
    participant: key.participant,
    participant_alt: key.participantAlt,
    from_me: key.fromMe ?? false,
    name: message.pushName,
    kind,
    text: content.conversation ?? content.extendedTextMessage?.text ?? content[kind]?.caption ??
      edited?.conversation ?? edited?.extendedTextMessage?.text,
    quoted: context?.stanzaId || undefined,
    mentions: context?.mentionedJid?.length ? context.mentionedJid : undefined
  }
}

function onMessages({ messages, type }) {
  for (const message of messages) {
    // Our own sends come back from Baileys itself.
    if (message.key.fromMe && sent.has(message.key.id)) continue
    if (message.messageStubType === proto.WebMessageInfo.StubType.CIPHERTEXT) {
      say('undecryptable', { id: message.key.id, chat: message.key.remoteJid })
    } else if (message.message) {
      keep(message)
      say('message', { ...describe(message), offline: type === 'append' })
    }
  }
}

/** Stanzas that Baileys keeps back, or tells later than it could. */
function listen(ws) {
  const typing = ({ attrs, content }) => {
    const [state] = content ?? []
    if (!state) return
    say('typing', { chat: attrs.from, participant: attrs.participant, state: state.tag })
  }
  ws.on('CB:chatstate', typing)
  ws.on('CB:presence', ({ attrs }) => {
    say('presence', { from: attrs.from, type: attrs.type ?? 'available' })
  })
  ws.on('CB:receipt', ({ attrs, content }) => {
    const list = Array.isArray(content) ? content.find(node => node.tag === 'list') : undefined
    const more = list?.content?.map(node => node.attrs.id) ?? []
    const { from, participant, type } = attrs
    say('receipt', { ids: [attrs.id, ...more], from, participant, type: type ?? 'delivery' })
  })
  ws.on('CB:ack,class:message', ({ attrs }) => say('ack', { id: attrs.id, error: attrs.error }))
}

function connect() {
  WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(settings.root, 'hex')
  const mine = makeWASocket({
    waWebSocketUrl: settings.url,
    auth: { creds: memory.creds, keys },
    logger,
    syncFullHistory: false,
    shouldSyncHistoryMessage: () => false,
    markOnlineOnConnect: settings.online ?? true,
    retryRequestDelayMs: 50,
    getMessage: async key => known.get(key.id)?.message ?? undefined
  })
  socket = mine
  listen(mine.ws)
  mine.ev.on('creds.update', update => Object.assign(memory.creds, update))
  mine.ev.on('messages.upsert', onMessages)
  mine.ev.on('groups.update', updates => {
    for (const { id, subject } of updates) say('group', { id, subject })
  })
  mine.ev.on('connection.update', ({ connection, qr, lastDisconnect }) => {
    if (socket !== mine) return
    if (qr) say('qr', { qr })
    if (connection === 'open') {
      const { id, lid, name } = memory.creds.me
      say('open', { id, lid: lid && jidNormalizedUser(lid), name })
    }
    if (connection === 'close') {
      const code = lastDisconnect?.error?.output?.statusCode
      socket = undefined
      if (code === RESTART_REQUIRED) connect()
      else say('closed', { code, reason: lastDisconnect?.error?.message })
    }
  })
}

// ---- What can be asked for.

/** Media come as {"base64": "…"}. */
function revive(value) {
  if (Array.isArray(value)) return value.map(revive)
  if (value === null || typeof value !== 'object') return value
  if (typeof value.base64 === 'string') return Buffer.from(value.base64, 'base64')
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, revive(part)]))
}

function found(id) {
  const message = known.get(id)
  if (!message) throw new Error(`no message ${id}`)
  return message
}

const commands = {
  /** Connects to `url`, whose certificates go back to `root` (hex); `media`: where blobs go. */
  async connect({ url, root, media, online, file }) {
    settings = { url, root, media, online }
    if (file) memory = JSON.parse(readFileSync(file), BufferJSON.reviver)
    connect()
  },
  /** Again, as after `drop`. */
  async reconnect() {
    if (!socket) connect()
  },
  /** A pairing code for the number. */
  async code({ phone }) {
    return socket.requestPairingCode(phone)
  },
  /** `content` is Baileys' own AnyMessageContent; `quoted` and `edit` are ids. */
  async send({ to, content, quoted, edit, ephemeral, id }) {
    const what = revive(content)
    if (edit) what.edit = found(edit).key
    const messageId = id ?? baileys.generateMessageIDV2(socket.user?.id)
    sent.add(messageId)
    const options = { messageId, upload }
    if (quoted) options.quoted = found(quoted)
    if (ephemeral) options.ephemeralExpiration = ephemeral
    const message = await socket.sendMessage(to, what, options)
    keep(message)
    return messageId
  },
  /** A message as it is in the protocol, for what Baileys does not make. */
  async relay({ to, message, id }) {
    const messageId = id ?? baileys.generateMessageIDV2(socket.user?.id)
    sent.add(messageId)
    const whole = proto.Message.fromObject(revive(message))
    keep({ key: { remoteJid: to, fromMe: true, id: messageId }, message: whole })
    return socket.relayMessage(to, whole, { messageId })
  },
  async typing({ to, state }) {
    await socket.sendPresenceUpdate(state ?? 'composing', to)
  },
  async presence({ state }) {
    await socket.sendPresenceUpdate(state)
  },
  async subscribe({ to }) {
    await socket.presenceSubscribe(to)
  },
  async read({ id }) {
    await socket.readMessages([found(id).key])
  },
  async rename({ group, subject }) {
    await socket.groupUpdateSubject(group, subject)
  },
  async groups() {
    const all = await socket.groupFetchAllParticipating()
    return Object.values(all).map(({ id, subject, addressingMode, participants }) =>
      ({ id, subject, addressing: addressingMode, members: participants.map(({ id }) => id) }))
  },
  /** Forgets what it shares with everybody, as a restored backup would have. */
  async forget_sessions() {
    memory.keys.session = {}
    memory.keys['sender-key'] = {}
    memory.keys['sender-key-memory'] = {}
  },
  /** Unlinks this device. */
  async logout() {
    await socket.logout()
    memory = { creds: initAuthCreds(), keys: {} }
  },
  /** Closes the connection; the device stays linked. */
  async drop() {
    const mine = socket
    socket = undefined
    await mine?.end(undefined)
    say('closed', {})
  },
  async save({ file }) {
    writeFileSync(file, JSON.stringify(memory, BufferJSON.replacer))
  }
}

// One at a time: what is sent first goes out first.
let turn = Promise.resolve()
createInterface({ input: process.stdin })
  .on('line', line => {
    turn = turn.then(async () => {
      const order = JSON.parse(line)
      try {
        const result = await commands[order.do](order)
        say('done', { n: order.n, result })
      } catch (error) {
        say('failed', { n: order.n, error: String(error?.stack ?? error) })
      }
    })
  })
  .on('close', () => process.exit(0))
