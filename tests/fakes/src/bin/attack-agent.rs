//! Stands in for `claw-agent-runner` and is hostile: does inside a sandbox what a message tells it
//! to, with all that a sandbox lets it, and answers what it got.
//!
//! A message is `attack TAG VERB ARGUMENTS`, a line break, and for some verbs a text; the answer
//! begins with `TAG `. Any other message is answered with `echo: TEXT`, so that one image serves hostile groups and harmless ones.
//!
//! | verb | effect |
//! |---|---|
//! | `sh` | runs the text with `sh`, answers its output |
//! | `hunt WORD` | looks for WORD, which is written backwards so that the message itself is none, in every file, environment and command line that can be read |
//! | `http METHOD TARGET TOKEN HOST` | a request to the proxy; TOKEN `mine`: the run's own |
//! | `hold COUNT` | opens that many connections to the proxy, each in the middle of a request, and keeps them |
//! | `token` | answers the run's own token |
//! | `tcp ADDRESS…` | connects to each |
//! | `abstract NAME…` | connects to each abstract socket |
//! | `forks COUNT` | starts that many processes that stay, counts those that started |
//! | `memory MIB` | allocates and fills that much |
//! | `flood MB` | so much on stdout without a frame |
//! | `large MB` | a frame of that size |
//! | `raw` | the text on stdout as it is, then the answer |
//! | `frame` | the text, one line of JSON, as a frame in place of the answer |
//! | `swap FOLDER NAME TARGET COUNT` | makes NAME in FOLDER a folder, a link to TARGET, a file, in turn, that often |
//! | `stay MARK` | from then on ignores `_close` and every signal, with helpers in sessions of their own whose command lines hold MARK |

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rust_claw_protocol::{
    CLOSE_FILE, FollowUp, Input, OUTPUT_END, OUTPUT_START, Output, Status, env, inside, write_frame,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> io::Result<ExitCode> {
    limit();
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let input: Input = serde_json::from_str(&text)?;
    let secrets = input.secrets.unwrap_or_default();
    let token = secrets.anthropic_api_key.unwrap_or_default();
    let mut agent = Agent { token, held: Vec::new(), stays: false };
    agent.turn(&input.prompt, None)?;
    let folder = Path::new(inside::INPUT);
    loop {
        let mut names: Vec<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map_while(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        // The host's are `SEQ-N.json`; others are what an attack has put there.
        for name in names.iter().filter(|name| name.contains('-')) {
            let Ok(text) = fs::read_to_string(folder.join(name)) else { continue };
            fs::remove_file(folder.join(name))?;
            if let Ok(FollowUp::Message { text }) = serde_json::from_str(&text) {
                agent.turn(&text, Some(name.clone()))?;
            }
        }
        if !agent.stays && names.iter().any(|name| name == CLOSE_FILE) {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What our own runner does before anything hostile runs.
fn limit() {
    for (name, resource) in
        [(env::PIDS_MAX, Resource::Nproc), (env::OPEN_FILES_MAX, Resource::Nofile)]
    {
        let value = std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let Some(value) = value else { continue };
        let hard = getrlimit(resource).maximum.map_or(value, |hard| hard.min(value));
        setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })
            .expect("limits can be lowered");
    }
}

struct Agent {
    token: String,
    held: Vec<UnixStream>,
    stays: bool,
}

impl Agent {
    fn turn(&mut self, prompt: &str, file: Option<String>) -> io::Result<()> {
        let text = last_message(prompt);
        let answer = match text.strip_prefix("attack ").and_then(|text| text.split_once(' ')) {
            Some((tag, attack)) => {
                let (line, body) = attack.split_once('\n').unwrap_or((attack, ""));
                let words: Vec<&str> = line.split(' ').collect();
                let got = self.attack(&words, body);
                let got = got.unwrap_or_else(|error| Some(format!("failed: {error}")));
                got.map(|got| format!("{tag} {got}"))
            }
            None => Some(format!("echo: {text}")),
        };
        let Some(answer) = answer else { return Ok(()) };
        let frame = Output {
            result: Some(answer),
            new_session_id: Some("attack-session".into()),
            turn_end: Some(true),
            consumed: file.map(|file| vec![file]),
            ..Output::new(Status::Success)
        };
        write_frame(&mut io::stdout(), &frame)
    }

    /// The answer; none where the attack has written its own frame.
    fn attack(&mut self, words: &[&str], body: &str) -> io::Result<Option<String>> {
        let mut out = io::stdout();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
        let answer = match words {
            ["sh"] => shell(body)?,
            ["hunt", word] => hunt(&word.chars().rev().collect::<String>()),
            ["http", method, target, token, host] => {
                let token = if *token == "mine" { &self.token } else { *token };
                http(method, target, token, host, body)?
            }
            ["hold", ..] => {
                for at in 0..number(1).unwrap_or(0) {
                    let Ok(mut stream) = UnixStream::connect(inside::PROXY_SOCKET) else { break };
                    let token = &self.token;
                    // Some have shown the token and owe the body, some say nothing at all.
                    if at % 2 == 0 {
                        let head = format!(
                            "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\ncontent-length: 99\r\n\r\n{{"
                        );
                        stream.write_all(head.as_bytes())?;
                    }
                    self.held.push(stream);
                }
                format!("holds {}", self.held.len())
            }
            ["token"] => self.token.clone(),
            ["tcp", addresses @ ..] => each(addresses, |address| {
                let address = address.to_socket_addrs()?.next();
                let address = address.ok_or(io::ErrorKind::NotFound)?;
                TcpStream::connect_timeout(&address, Duration::from_secs(3)).map(drop)
            }),
            ["abstract", names @ ..] => each(names, |name| {
                use std::os::linux::net::SocketAddrExt;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                UnixStream::connect_addr(&address).map(drop)
            }),
            ["forks", ..] => forks(number(1).unwrap_or(0)),
            ["memory", ..] => memory(number(1).unwrap_or(0)),
            ["flood", ..] => {
                let chunk = vec![b'x'; 1_000_000];
                for _ in 0..number(1).unwrap_or(0) {
                    out.write_all(&chunk)?;
                }
                out.write_all(b"\n")?;
                "flooded".to_owned()
            }
            ["large", ..] => {
                // Never whole in our own memory: the bound is to be met outside.
                let chunk = vec![b'x'; 1_000_000];
                write!(out, "{OUTPUT_START}\n{{\"status\":\"success\",\"result\":\"")?;
                for _ in 0..number(1).unwrap_or(0) {
                    out.write_all(&chunk)?;
                }
                write!(out, "\"}}\n{OUTPUT_END}\n")?;
                "sent".to_owned()
            }
            ["raw"] => {
                out.write_all(body.as_bytes())?;
                out.write_all(b"\n")?;
                out.flush()?;
                "written".to_owned()
            }
            ["frame"] => {
                write!(out, "{OUTPUT_START}\n{body}\n{OUTPUT_END}\n")?;
                out.flush()?;
                return Ok(None);
            }
            ["swap", folder, name, target, _] => {
                swap(Path::new(folder), name, target, number(4).unwrap_or(1))
            }
            ["stay", mark] => {
                self.stays = true;
                stay(mark)?
            }
            _ => format!("unknown attack: {words:?}"),
        };
        Ok(Some(answer))
    }
}

/// `ADDRESS: yes` or `ADDRESS: no: WHY`, a line each.
fn each(addresses: &[&str], connect: impl Fn(&str) -> io::Result<()>) -> String {
    let line = |address: &&str| match connect(address) {
        Ok(()) => format!("{address}: yes"),
        Err(error) => format!("{address}: no: {error}"),
    };
    addresses.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn shell(script: &str) -> io::Result<String> {
    let done = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output()?;
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(format!("{}{}[{}]", said[0], said[1], done.status.code().unwrap_or(-1)))
}

/// `PATH` of each place where `word` is, then how many were looked at.
fn hunt(word: &str) -> String {
    let mut found = String::new();
    let mut count = 0;
    let mut folders = vec![PathBuf::from("/")];
    let deadline = Instant::now() + Duration::from_mins(1);
    while let Some(folder) = folders.pop() {
        if Instant::now() > deadline {
            return format!("{found}gave up after {count}");
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            let in_proc = path.starts_with("/proc");
            if path.to_string_lossy().contains(word) {
                found.extend(["name ", &path.to_string_lossy(), "\n"]);
            }
            if kind.is_dir() {
                // The system's own; and of the processes, which come below, no thread.
                let skip = ["/usr", "/sys", "/lib", "/bin", "/sbin"]
                    .iter()
                    .any(|it| path == Path::new(it));
                if !skip && !path.ends_with("task") {
                    folders.push(path);
                }
                continue;
            }
            let is_of_process =
                ["environ", "cmdline", "mountinfo", "maps"].iter().any(|name| path.ends_with(name));
            if !kind.is_file() || (in_proc && !is_of_process) {
                continue;
            }
            let mut bytes = Vec::new();
            let read =
                fs::File::open(&path).and_then(|it| it.take(8_000_000).read_to_end(&mut bytes));
            count += usize::from(read.is_ok());
            if bytes.windows(word.len()).any(|part| part == word.as_bytes()) {
                found.extend(["in ", &path.to_string_lossy(), "\n"]);
            }
        }
    }
    format!("{found}looked at {count}")
}

/// Status line and body of the answer of the proxy.
fn http(method: &str, target: &str, token: &str, host: &str, body: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(inside::PROXY_SOCKET)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nhost: {host}\r\nx-api-key: {token}\r\n\
         anthropic-version: 2023-06-01\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn forks(count: usize) -> String {
    let mut children = Vec::new();
    let mut why = String::new();
    for _ in 0..count {
        let child =
            Command::new("sleep").arg("300").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        match child {
            Ok(child) => children.push(child),
            Err(error) => why = error.to_string(),
        }
    }
    let started = children.len();
    for mut child in children {
        // Room for what comes next.
        child.kill().and_then(|()| child.wait().map(drop)).expect("it is our child");
    }
    format!("started {started} of {count}: {why}")
}

fn memory(mib: usize) -> String {
    // In a child: the kernel kills whoever has most.
    let script = format!("head -c {mib}M /dev/zero | tail -c {mib}M | wc -c");
    shell(&script).unwrap_or_else(|error| error.to_string())
}

fn swap(folder: &Path, name: &str, target: &str, count: usize) -> String {
    let (place, aside) = (folder.join(name), folder.join(format!(".{name}-aside")));
    let mut swaps = fs::OpenOptions::new().create(true).append(true).open("/workspace/group/swaps");
    for _ in 0..count {
        // Each may fail: the host works in the same place.
        fs::rename(&place, &aside).ok();
        if std::os::unix::fs::symlink(target, &place).is_ok()
            && let Ok(swaps) = &mut swaps
        {
            // A byte for each, for it may be ended at any moment.
            swaps.write_all(b".").ok();
        }
        fs::remove_file(&place).ok();
        fs::write(&place, "{}").ok();
        fs::remove_file(&place).ok();
        fs::rename(&aside, &place).ok();
        fs::create_dir(&place).ok();
    }
    format!("swapped {count} times")
}

fn stay(mark: &str) -> io::Result<String> {
    let beat = format!(
        "trap '' TERM INT HUP QUIT PIPE; while :; do echo {mark} >/workspace/group/beat; \
         sleep 0.05; done"
    );
    Command::new("setsid")
        .args(["--fork", "sh", "-c", &format!("setsid --fork sh -c \"{beat}\"")])
        .stdin(Stdio::null())
        .status()?;
    Ok("stays".to_owned())
}

/// Text of the last `<message …>` of a prompt; of one without, all of it.
fn last_message(prompt: &str) -> String {
    let message = prompt
        .rsplit_once("<message ")
        .and_then(|(_, rest)| rest.split_once('>'))
        .and_then(|(_, rest)| rest.split_once("</message>"));
    let text = message.map_or(prompt, |(text, _)| text);
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")];
    plain.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}
