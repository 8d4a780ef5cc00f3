//! Every limit and interval of the program, with its unit and its reason, and how they relate.

use std::time::Duration;

/// A poll of the database where no doorbell rang: the net under lost wake-ups.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Of one chat's messages, how many reach a prompt; older ones are counted in a line.
pub const PROMPT_MESSAGES_MAX: usize = 200;
/// Size of the messages of one prompt; older ones are counted in a line.
pub const PROMPT_BYTES_MAX: usize = 100_000;
/// Of a waking message that does not fit whole, the least that is worth being shown.
pub const PROMPT_CUT_BYTES_MIN: usize = 512;
/// Of a sender's name, what reaches a prompt, in characters. `WhatsApp` allows 25.
pub const PROMPT_SENDER_CHARS_MAX: usize = 100;
/// Text of one stored message. What comes from elsewhere is cut off there, what is given to our own
/// commands is refused. `WhatsApp` itself ends at 65,536 characters.
pub const MESSAGE_BYTES_MAX: usize = 65_536;
/// Longest JSON line that `inject` reads.
pub const INJECT_LINE_BYTES_MAX: usize = 256 * 1024;

/// Runs that get ready while all sandboxes are taken, or record how they ended when theirs is gone:
/// one such is enough, as each is there for a few milliseconds where the next one waits.
pub const RUNS_AHEAD: usize = 1;
/// First pause after a failed run; doubles with each further failure.
pub const RETRY_FIRST: Duration = Duration::from_secs(5);
/// Retries after the first attempt; then a dead letter and one notice.
pub const RETRIES_MAX: u32 = 5;

/// From the polite request to end (`_close`, SIGTERM) to the kill.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// After a kill, how long an end may take to show before we go on without.
pub const KILL_GRACE: Duration = Duration::from_secs(5);
/// What the hard limit of a run keeps over the idle limit, so that `_close` always comes first.
pub const HARD_LIMIT_OVER_IDLE: Duration = Duration::from_secs(30);
/// After this the service manager kills us. Source: systemd `TimeoutStopSec`.
pub const SERVICE_STOP_MAX: Duration = Duration::from_secs(90);

/// Messages between a run's readers and its worker; a full channel holds the pipe back.
pub const RUN_EVENTS_MAX: usize = 256;
/// Messages on their way to the dispatcher; a full channel holds the sender back.
pub const DISPATCH_EVENTS_MAX: usize = 1024;
/// Most sandboxes at a time that a setting may ask for.
pub const CONCURRENT_RUNS_MAX: usize = 256;
/// Follow-ups that wait unread in one sandbox; further ones stay pending in the store.
pub const FOLLOW_UPS_MAX: usize = 64;

/// How often the containers that run are held against the runs that should.
pub const RECONCILE_INTERVAL: Duration = Duration::from_mins(1);
/// First pause before a sandbox engine that did not answer is asked again; doubles.
pub const ENGINE_RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between two such questions.
pub const ENGINE_RETRY_MAX: Duration = Duration::from_mins(1);
/// How long a short command of an engine (`version`, `inspect`, `rm`) may take.
pub const ENGINE_COMMAND_MAX: Duration = Duration::from_secs(30);

/// How long an engine may take to say at all whether it works.
pub const ENGINE_PROBE_MAX: Duration = Duration::from_secs(5);
/// What a short command of an engine may answer.
pub const ENGINE_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a container that is still there is removed once more before the next sweep has to.
pub const REMOVE_ATTEMPTS_MAX: u32 = 4;
/// Pause between two of these; the engine may be in the middle of removing it.
pub const REMOVE_RETRY: Duration = Duration::from_millis(250);
/// After a sandbox ended, how long a process that escaped its group may hold a pipe.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Of one read from a sandbox's pipe.
pub const READ_BYTES: usize = 32 * 1024;
/// What a pipe holds anyway. Source: pipe(7).
pub const PIPE_BYTES_USUAL: usize = 64 * 1024;
/// Asked of the kernel for a sandbox's pipes. Source: default of `/proc/sys/fs/pipe-max-size`.
pub const PIPE_BYTES: usize = 1024 * 1024;
/// At most so often a sandbox's output counts as a sign of life.
pub const ACTIVITY_INTERVAL: Duration = Duration::from_secs(1);
/// A frame larger than this waits until the one before is recorded, so that a full channel of
/// frames stays small.
pub const FRAME_BYTES_UNHELD_MAX: usize = 64 * 1024;
/// Of one line that a sandbox writes to stderr, what reaches its log.
pub const STDERR_LINE_BYTES_MAX: usize = 4096;

/// A look for something to deliver where nothing is underway and no bell rang.
pub const DELIVERY_NET_INTERVAL: Duration = Duration::from_secs(15);
/// First pause after a failed delivery; doubles.
pub const DELIVERY_RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between two attempts at a delivery.
pub const DELIVERY_RETRY_MAX: Duration = Duration::from_mins(5);

/// First pause after a connection to `WhatsApp` failed; doubles, and has a random part.
pub const LINK_RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between two attempts to connect to `WhatsApp`.
pub const LINK_RETRY_MAX: Duration = Duration::from_mins(5);
/// Attempts to connect to `WhatsApp` a minute, whatever asks for them.
pub const LINK_ATTEMPTS_MAX: usize = 10;
/// A connection that lasted so long resets the pauses. Source: `resetDelay` of `WhatsApp` Web.
pub const LINK_STABLE_MIN: Duration = Duration::from_secs(30);
/// From the beginning of an attempt until all that was said meanwhile has come.
pub const LINK_CONNECT_MAX: Duration = Duration::from_mins(3);
/// Silence of the server after which it is taken for dead. Its answers to our pings come at least
/// every 45 s: 15 s without a word, then up to 30 s until the next ping.
pub const LINK_SILENCE_MAX: Duration = Duration::from_secs(50);
/// For asking which version `WhatsApp` Web has today.
pub const WHATSAPP_VERSION_MAX: Duration = Duration::from_secs(4);
/// How often the link looks at the clocks, the silence and the network.
pub const LINK_LOOK_INTERVAL: Duration = Duration::from_secs(8);
/// After another program has connected as this device: two that fight reach nothing.
pub const LINK_REPLACED_RETRY: Duration = Duration::from_mins(10);
/// After the version was refused: it changes once in some weeks.
pub const LINK_OUTDATED_RETRY: Duration = Duration::from_hours(1);
/// How long a ban is taken to last where the server does not tell.
pub const LINK_BAN_UNTOLD: Duration = Duration::from_hours(6);
/// Longest ban that is believed without asking again.
pub const LINK_BAN_MAX: Duration = Duration::from_hours(30 * 24);
/// The clocks part by more than this: the machine has slept, or its clock was set.
pub const CLOCK_JUMP_MIN: Duration = Duration::from_mins(1);
/// Events of the protocol library on their way to the link; further ones are dropped, since the
/// library must never wait for us. Messages do not come this way.
pub const LINK_EVENTS_MAX: usize = 1024;
/// First pause before a link that panicked is made again; doubles up to [`LINK_RETRY_MAX`].
pub const LINK_RESTART_FIRST: Duration = Duration::from_secs(5);
/// For saying good-bye to the server at a stop: signatures and sessions are written meanwhile.
pub const LINK_CLOSE_MAX: Duration = Duration::from_secs(5);
/// A message that came while we were away is answered if it is younger; else it is context.
pub const WHATSAPP_FRESH_MAX: Duration = Duration::from_hours(24);
/// From handing a message to the library to the server's acknowledgement.
pub const WHATSAPP_ACK_MAX: Duration = Duration::from_secs(30);
/// From handing a message to the library to its being written: it may ask the server for keys and
/// devices first, and waits up to 75 s for each answer.
pub const WHATSAPP_SEND_MAX: Duration = Duration::from_secs(90);
/// After so many refusals of one message it is given up: what stands behind it waits.
pub const WHATSAPP_NACKS_MAX: u32 = 30;
/// News of messages on their way out; when there are more, a deadline tells the same later.
pub const WHATSAPP_WORDS_MAX: usize = 256;
/// Messages on their way to the server at a time, each of another chat.
pub const WHATSAPP_IN_FLIGHT_MAX: usize = 8;
/// Longest text in one message: what people still read as one. `WhatsApp` ends at 65,536
/// characters, its API for businesses at 4096.
pub const WHATSAPP_TEXT_BYTES_MAX: usize = 4000;
/// Messages to one chat that may go out at once; an answer has one to three parts.
pub const WHATSAPP_CHAT_BURST_MAX: u32 = 10;
/// After that, seconds per message to one chat. A person who types fast needs as long; the API
/// for businesses allows one in six seconds to the same person, over time.
pub const WHATSAPP_CHAT_PAUSE_SECONDS: u32 = 3;
/// Messages to all chats that may go out at once. Source: none; accounts were banned for bursts to
/// many chats, and nobody writes to thirty at once.
pub const WHATSAPP_ALL_BURST_MAX: u32 = 30;
/// After that, seconds per message to whatever chat.
pub const WHATSAPP_ALL_PAUSE_SECONDS: u32 = 1;
/// How long what was sent can be sealed anew for a phone that could not open it: one that was off
/// asks when it is on again. As long as WhatsApp's server waits for a phone.
pub const WHATSAPP_SENT_KEPT: Duration = Duration::from_hours(30 * 24);
/// After what may have shown us as there: the library says so a moment after it says why.
pub const PRESENCE_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often "typing" is said again: phones show it for 25 s.
pub const TYPING_REFRESH: Duration = Duration::from_secs(10);
/// Wrappers around a message (disappearing, view once, edited, …) that are opened.
pub const WHATSAPP_WRAPPERS_MAX: usize = 8;
/// Of a message that is replied to, what the reply carries along, in characters.
pub const WHATSAPP_QUOTE_CHARS_MAX: usize = 500;
/// Of the name of a document, a place or a poll's option, what is shown, in characters.
pub const WHATSAPP_NOTE_CHARS_MAX: usize = 100;
/// Of the history that a phone sends after pairing, messages per registered chat.
pub const WHATSAPP_HISTORY_MAX: usize = 500;

/// Connections to the credential proxy at a time, each with a thread; further ones wait.
pub const PROXY_CONNECTIONS_MAX: usize = 64;
/// Requests of one run at a time: the Claude Code CLI runs up to ten sub-agents side by side.
pub const PROXY_RUN_REQUESTS_MAX: usize = 16;
/// Request line and headers. Ours come to 2 KiB; common servers stop between 8 and 64.
pub const PROXY_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of one request.
pub const PROXY_HEADERS_MAX: usize = 100;
/// Query of a request; the API's own is `beta=true` or the page of a list.
pub const PROXY_QUERY_BYTES_MAX: usize = 1024;
/// Body of a request. The API itself ends at 32 MB; a gateway may allow more.
pub const PROXY_REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Body of an answer: a stream of the longest output, each token in an event of its own, is 40 MB.
pub const PROXY_RESPONSE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What is kept of an answer to read its token counts; a longer line or document is not counted.
pub const PROXY_METER_BYTES_MAX: usize = 1024 * 1024;
/// What is copied at once.
pub const PROXY_COPY_BYTES: usize = 64 * 1024;
/// From the first byte of a head (or the connection) to the end of the head.
pub const PROXY_HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a connection may stay open between two requests.
pub const PROXY_IDLE_MAX: Duration = Duration::from_mins(1);
/// How long the sandbox may leave a read of its body or a write of its answer waiting.
pub const PROXY_CLIENT_WAIT_MAX: Duration = Duration::from_mins(1);
/// How long what still comes in is thrown away after a refusal, so that the refusal is read.
pub const PROXY_LINGER_MAX: Duration = Duration::from_secs(2);
/// TCP and TLS to the model API.
pub const MODEL_CONNECT_MAX: Duration = Duration::from_secs(20);
/// Silence of the model API; a request without streaming may take it ten minutes.
pub const MODEL_SILENCE_MAX: Duration = Duration::from_mins(15);
/// Size of the list of folders that may be mounted.
pub const ALLOWLIST_BYTES_MAX: u64 = 64 * 1024;

/// Size of one log of the program before it is moved aside.
pub const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Size of the log of one run.
pub const RUN_LOG_BYTES_MAX: u64 = 1024 * 1024;

/// Prompt and script of a task, each: what a message may have.
pub const TASK_TEXT_BYTES_MAX: usize = MESSAGE_BYTES_MAX;
/// Tasks of one group that are active or paused: an agent that creates them in a loop is stopped.
pub const TASKS_PER_GROUP_MAX: i64 = 10_000;
/// Prompts and scripts of all tasks of one group that are longer than [`TASK_SHORT_BYTES`].
pub const TASKS_TEXT_BYTES_MAX: i64 = 4 * 1024 * 1024;
/// A task with no more text is bounded by the number of tasks alone.
pub const TASK_SHORT_BYTES: usize = 1024;
/// Of what a task said, what its history keeps; the whole is in the chat.
pub const TASK_RESULT_CHARS_MAX: usize = 500;
/// Failures in a row after which a task is paused.
pub const TASK_FAILURES_MAX: u32 = 8;
/// Slots that one transaction claims; what is left is claimed by the next, at once.
pub const TASK_CLAIMS_MAX: usize = 1000;
/// The scheduler looks at the wall clock at least so often: it may have been set, or the machine
/// have slept.
pub const CLOCK_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A look at the tasks where no bell rang and no slot came.
pub const TASKS_LOOK_INTERVAL: Duration = Duration::from_mins(1);
/// A task's slot that is older is not made up for.
pub const CATCH_UP_MAX: Duration = Duration::from_hours(24);

/// A look at the groups' folders where the system cannot tell of anything.
pub const IPC_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Where it can: a glance at the folders' times, should it ever not tell.
pub const IPC_GLANCE_INTERVAL: Duration = Duration::from_secs(10);
/// Also there: a look. Each is told to us too, and costs as much again.
pub const IPC_LOOK_INTERVAL: Duration = Duration::from_mins(1);
/// Size of one request. A message of [`MESSAGE_BYTES_MAX`] fits, however it is escaped.
pub const IPC_REQUEST_BYTES_MAX: u64 = 256 * 1024;
/// Requests of one group that are handled at once; after that, so many come back a second.
pub const IPC_BURST_MAX: u32 = 1000;
/// Requests of one group a second, once its burst is used up.
pub const IPC_REQUESTS_PER_SECOND: u32 = 100;
/// Requests of one group that are handled before the next group's turn.
pub const IPC_ROUND_MAX: usize = 32;
/// Names that are read of a folder with requests at a time.
pub const IPC_NAMES_MAX: usize = 4096;
/// News of changed folders that wait for the thread; when there are more, it looks at all.
pub const IPC_NEWS_MAX: usize = 1024;
/// How long a response lies there for an agent that may have gone.
pub const IPC_RESPONSE_KEPT: Duration = Duration::from_mins(2);
/// How long it is known that a request was done.
pub const IPC_REQUEST_KNOWN: Duration = Duration::from_hours(24);
/// Files in the quarantine of unusable requests, reasons included.
pub const QUARANTINE_FILES_MAX: usize = 500;
/// Bytes in it.
pub const QUARANTINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Messages that one transaction makes searchable: it holds the write lock for some milliseconds.
pub const SEARCH_STEP_MAX: usize = 500;
/// Such transactions a second while nobody else writes; else one.
pub const SEARCH_STEPS_MAX: usize = 10;
/// Messages that a search makes searchable first, if they are not yet.
pub const SEARCH_CATCH_UP_MAX: usize = 20_000;

/// Files and folders that an import or a backup takes along.
pub const IMPORT_ENTRIES_MAX: usize = 1_000_000;
/// Their bytes: 64 GiB.
pub const IMPORT_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// Logs of runs that a group keeps, whatever their age.
pub const RUN_LOGS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Transcripts that a group keeps for each of its projects, whatever their age.
pub const TRANSCRIPTS_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Files that one look at a folder may clear away.
pub const RETENTION_FILES_MAX: usize = 10_000;
/// Rows that one transaction removes: it holds the write lock for some milliseconds.
pub const RETENTION_STEP_MAX: usize = 250;
/// How long one turn goes on; the next comes a minute later.
pub const RETENTION_TURN_MAX: Duration = Duration::from_secs(2);
/// Threads for what blocks in the WhatsApp library: a connect, the making of keys. Few at a time,
/// and rare.
pub const WHATSAPP_BLOCKING_THREADS_MAX: usize = 4;
/// From the start of a connect to WhatsApp to the end of its handshake, each; the library itself
/// gives up after 20 s.
pub const WHATSAPP_CONNECT_MAX: Duration = Duration::from_secs(15);
/// Of that, for one of a name's addresses: the others may answer where it does not.
pub const WHATSAPP_ADDRESS_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long WhatsApp's server may leave what we send untaken.
pub const WHATSAPP_WRITE_MAX: Duration = Duration::from_secs(15);
/// Of one read from the connection, and of the websocket's buffer, which is allocated whole.
pub const WHATSAPP_READ_BYTES: usize = 16 * 1024;
/// Size of a websocket message. A frame of the protocol ends at 16 MiB: its length has 3 bytes.
pub const WHATSAPP_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Websocket messages that wait for the library; a full channel holds the server back.
pub const WHATSAPP_EVENTS_MAX: usize = 16;
/// Body of an answer over HTTP, which is in memory as a whole: a part of the history is some MB.
pub const WHATSAPP_HTTP_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A request over HTTP, from its name to its last byte.
pub const WHATSAPP_HTTP_MAX: Duration = Duration::from_mins(2);

/// How often `WhatsApp` is asked what the groups are called.
pub const GROUPS_SYNC_INTERVAL: Duration = Duration::from_hours(24);
/// After it did not answer.
pub const GROUPS_SYNC_RETRY: Duration = Duration::from_mins(5);
/// Between two such questions, whoever wants to know.
pub const GROUPS_SYNC_PAUSE: Duration = Duration::from_secs(2);
/// Groups of one account that are noted.
pub const GROUPS_MAX: usize = 10_000;
/// Characters of a group's name. `WhatsApp` allows 100.
pub const GROUP_NAME_CHARS_MAX: usize = 100;

/// How long a statement waits for another process's transaction.
pub const DATABASE_BUSY_MAX: Duration = Duration::from_secs(10);

const _: () = {
    // Every run can report its end even if nobody reads meanwhile.
    assert!(CONCURRENT_RUNS_MAX < DISPATCH_EVENTS_MAX);
    // A stop does not wait for the good-bye, but it should fit.
    assert!(LINK_CLOSE_MAX.as_secs() < STOP_GRACE.as_secs());
    // A frozen server is noticed within a minute.
    assert!(LINK_SILENCE_MAX.as_secs() + LINK_LOOK_INTERVAL.as_secs() < 60);
    assert!(WHATSAPP_TEXT_BYTES_MAX <= MESSAGE_BYTES_MAX);
    // A run alone cannot take all connections.
    assert!(4 * PROXY_RUN_REQUESTS_MAX <= PROXY_CONNECTIONS_MAX);
    assert!(PROXY_LINGER_MAX.as_secs() + MODEL_CONNECT_MAX.as_secs() < SERVICE_STOP_MAX.as_secs());
    assert!(
        STOP_GRACE.as_secs() + 3 * KILL_GRACE.as_secs() + 2 * LINK_CLOSE_MAX.as_secs()
            < SERVICE_STOP_MAX.as_secs()
    );
    // All frames that can wait in a run's channel.
    assert!(RUN_EVENTS_MAX * FRAME_BYTES_UNHELD_MAX <= 16 * 1024 * 1024);
    // JSON writes a byte as six characters at worst; one message does not fill the quarantine.
    assert!(IPC_REQUEST_BYTES_MAX < QUARANTINE_BYTES_MAX);
    assert!(IPC_ROUND_MAX <= IPC_BURST_MAX as usize);
    assert!(ENGINE_PROBE_MAX.as_secs() <= ENGINE_COMMAND_MAX.as_secs());
    assert!(WHATSAPP_ADDRESS_WAIT_MAX.as_secs() <= WHATSAPP_CONNECT_MAX.as_secs());
    assert!(ENGINE_RETRY_FIRST.as_secs() <= ENGINE_RETRY_MAX.as_secs());
};
