// Lists all tools with the reference client, calls each, and prints what came back as JSON.
// Arguments: the folder that the SDK is installed in, the runner.

import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [folder, runner] = process.argv.slice(2)
const require = createRequire(folder + '/')
const load = path => import(pathToFileURL(require.resolve('@modelcontextprotocol/sdk/' + path)))
const { Client } = await load('client/index.js')
const { StdioClientTransport } = await load('client/stdio.js')
const { ResultSchema } = await load('types.js')

const client = new Client({ name: 'test', version: '1' })
await client.connect(new StdioClientTransport({ command: runner, args: ['mcp'], env: process.env }))
await client.ping()
const { tools } = await client.listTools()

const calls = {}
const call = async (name, args = {}) => {
  if (!tools.some(tool => tool.name === name)) return null
  calls[name] = await client.callTool({ name, arguments: args })
  try { return JSON.parse(calls[name].content[0].text) } catch { return null }
}
await call('send_message', { text: 'hello from node' })
const times = { schedule_type: 'once', schedule_value: '2099-01-31T09:00' }
const task = await call('schedule_task', { prompt: 'p', ...times })
await call('list_tasks')
await call('get_task', { task_id: task.id })
await call('update_task', { task_id: task.id, prompt: 'q' })
await call('pause_task', { task_id: task.id })
await call('resume_task', { task_id: task.id })
await call('run_task_now', { task_id: task.id })
await call('cancel_task', { task_id: task.id })
await call('search_messages', { query: 'hello' })
await call('list_groups')
await call('register_group', { jid: '9@g.us', name: 'Nine', folder: 'nine' })
await call('refresh_groups')
await call('unregister_group', { folder: 'nine' })

const bad_argument = await client.callTool({ name: 'send_message', arguments: { text: 7 } })
const code = async promise => { try { await promise; return null } catch (error) { return error.code } }
const unknown_tool = await code(client.callTool({ name: 'make_main', arguments: {} }))
const unknown_method = await code(client.request({ method: 'resources/list' }, ResultSchema))
await client.close()
console.log(JSON.stringify({ tools, calls, bad_argument, unknown_tool, unknown_method }))
