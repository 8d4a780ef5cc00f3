//! What the wall costs: the proxy before the model API, a mount check, bubblewrap.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rust_claw::credentials::{Address, Credential, Listen, Proxy, Secret, Upstream};
use rust_claw::sandbox::allowlist::Allowlist;
use rust_claw::sandbox::mounts::{GroupPaths, Policy, decide, mounts, protected};
use rust_claw::sandbox::{
    Engine, Limits, Network, RuntimeChoice, RuntimeKind, SandboxSpec, write_identity,
};
use rust_claw::store::AdditionalMount;

use crate::bed::{Bed, Place, folder};
use crate::table::{Row, Times, ms, note, row};
use crate::{Extent, Outcome};

/// One event of a streamed answer, as long as the model API's usually are.
const EVENT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\
    \"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a few words of an answer\"}}\n\n";

pub(crate) fn proxy(extent: Extent) -> Outcome<()> {
    let upstream = serve_model()?;
    let folder = tempfile::tempdir()?;
    let key = Credential::ApiKey(Secret::from("bench-key".to_owned()));
    let to = Upstream::new(&format!("http://{upstream}"), &key, None)?;
    let proxy = Proxy::start(&Listen::Unix(folder.path().join("proxy")), to)?;
    let Address::Unix(socket) = proxy.address() else {
        return Err("a socket was asked for".into());
    };
    let token = proxy.handle().issue("bench");
    let token = token.as_str();

    let (mut straight, mut through) = (Vec::new(), Vec::new());
    for _ in 0..extent.count(200) {
        straight.push(ask(TcpStream::connect(upstream)?, token, 100)?.first_byte);
        through.push(ask(UnixStream::connect(socket)?, token, 100)?.first_byte);
    }
    let (straight, through) = (Times::new(straight).median(), Times::new(through).median());
    row(&Row {
        what: "proxy: first byte on a new connection, direct / through it / added, p50",
        measured: format!(
            "{} / {} / {}",
            ms(straight),
            ms(through),
            ms(through.saturating_sub(straight))
        ),
        must: "adds ≤ 1 ms",
        reference: "–",
    })?;
    let bytes = extent.count(200_000_000);
    let straight = ask(TcpStream::connect(upstream)?, token, bytes)?;
    let mut through = Vec::new();
    for _ in 0..extent.repeats(5) {
        through.push(ask(UnixStream::connect(socket)?, token, bytes)?.whole);
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let speed = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    row(&Row {
        what: "proxy: streamed answer of small events, direct / through it",
        measured: format!(
            "{:.0} / {:.0} MB/s",
            speed(straight.whole),
            speed(Times::new(through).median())
        ),
        must: "≥ 200 MB/s",
        reference: "–",
    })
}

struct Asked {
    first_byte: Duration,
    whole: Duration,
}

fn ask(mut stream: impl Read + Write, token: &str, bytes: usize) -> Outcome<Asked> {
    let begun = Instant::now();
    let request = format!(
        "POST /v1/messages?beta={bytes} HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes())?;
    let mut buffer = vec![0; 256 * 1024];
    let mut got = stream.read(&mut buffer)?;
    let first_byte = begun.elapsed();
    if !buffer[..got].starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(&buffer[..got]).into_owned().into());
    }
    loop {
        let more = stream.read(&mut buffer)?;
        if more == 0 {
            break;
        }
        got += more;
    }
    if got < bytes {
        return Err(format!("{got} bytes of {bytes}").into());
    }
    Ok(Asked { first_byte, whole: begun.elapsed() })
}

/// A model API that answers with as many bytes of events as the query says.
fn serve_model() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                if let Err(error) = answer(stream) {
                    crate::complain(error.as_ref());
                }
            });
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream) -> Outcome<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        let mut some = [0; 4096];
        let count = stream.read(&mut some)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&some[..count]);
    }
    let request = String::from_utf8(request)?;
    let (_, rest) = request.split_once("beta=").ok_or("no size")?;
    let mut left: usize = rest.split(' ').next().ok_or("no size")?.parse()?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {left}\r\n\
         connection: close\r\n\r\n"
    )?;
    let events = EVENT.repeat(1 + 256 * 1024 / EVENT.len()).into_bytes();
    while 0 < left {
        let part = &events[..left.min(events.len())];
        stream.write_all(part)?;
        left -= part.len();
    }
    Ok(())
}

pub(crate) fn mount_check(extent: Extent) -> Outcome<()> {
    let user = tempfile::tempdir()?;
    let user_home = user.path();
    let shared = user_home.join("shared/documents");
    fs::create_dir_all(&shared)?;
    let [list, _] = Allowlist::paths(user_home);
    fs::create_dir_all(list.parent().ok_or("a file in a folder")?)?;
    fs::write(
        list,
        r#"{"allowedRoots":[{"path":"~/other","allowReadWrite":false},
            {"path":"~/shared","allowReadWrite":true}],"blockedPatterns":["password"],
            "nonMainReadOnly":true}"#,
    )?;
    let asked = AdditionalMount {
        host_path: "~/shared/documents".to_owned(),
        container_path: None,
        readonly: true,
    };
    let mut times = Vec::new();
    for _ in 0..extent.count(1000) {
        let begun = Instant::now();
        let protected = protected(&user_home.join("home"), user_home, None);
        let policy = Policy {
            allowlist: &Allowlist::load(user_home),
            user_home,
            protected: &protected,
            is_main: false,
        };
        decide(&asked, policy)?;
        times.push(begun.elapsed());
    }
    row(&Row {
        what: "a mount check, reading the allowlist included, p50 / p95",
        measured: Times::new(times).both(),
        must: "≤ 1 ms",
        reference: "–",
    })
}

/// Our own command line, with a program inside that says when it began.
pub(crate) fn bwrap(extent: Extent) -> Outcome<()> {
    let kind = RuntimeKind::Bwrap;
    let engine = match Engine::detect(RuntimeChoice::One(kind), None) {
        Ok(engine) => engine,
        Err(finding) => {
            return note(&format!("no bwrap to be measured: {finding}"));
        }
    };
    let program = crate::programs().join("bench-agent");
    let bed = Bed::new(Place::Memory, 1)?;
    let argv = engine.argv(&spec(&bed, program.clone())?);
    let bwrap = rust_claw::sandbox::find_program("bwrap").ok_or("it was there just now")?;
    let (mut bare, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..extent.count(100) {
        bare.push(begins(Command::new(&program).env_clear())?);
        inside.push(begins(Command::new(&bwrap).args(&argv).env_clear())?);
    }
    let (bare, inside) = (Times::new(bare).median(), Times::new(inside).median());
    row(&Row {
        what: "start of a process, bare / in our bwrap sandbox / added, p50",
        measured: format!("{} / {} / {}", ms(bare), ms(inside), ms(inside.saturating_sub(bare))),
        must: "adds ≤ 25 ms",
        reference: "–",
    })
}

fn begins(command: &mut Command) -> Outcome<Duration> {
    let asked = SystemTime::now();
    let output = command.output()?;
    let began = String::from_utf8(output.stdout)?;
    if began.is_empty() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let began = SystemTime::UNIX_EPOCH + Duration::from_nanos(began.parse()?);
    Ok(began.duration_since(asked).unwrap_or_default())
}

fn spec(bed: &Bed, program: PathBuf) -> Outcome<SandboxSpec> {
    let (home, group) = (&bed.home, folder(0));
    home.create_group_folders(&group, "G", "Andy", false)?;
    home.write_shared_files()?;
    write_identity(&home.identity())?;
    let paths = GroupPaths {
        group: home.group(&group),
        logs: home.group_logs(&group),
        global: home.global(),
        ipc: home.ipc(&group),
        claude_config: home.claude_config(&group),
        skills: None,
        settings: None,
        groups_root: home.groups(),
    };
    Ok(SandboxSpec {
        name: "rust-claw-g0-1".to_owned(),
        home_label: home.label(),
        folder: group,
        mounts: mounts(&paths, false, []),
        env: Vec::new(),
        limits: Limits::default(),
        network: Network::Full,
        image: "none".to_owned(),
        program,
        claude: None,
        identity: Some(home.identity()),
    })
}

/// Size of the program as it is installed.
pub(crate) fn size() -> Outcome<()> {
    let size = |name: &str| -> io::Result<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a few million")]
        let bytes = fs::metadata(Path::new(&crate::programs()).join(name))?.len() as f64;
        Ok(bytes / 1e6)
    };
    row(&Row {
        what: "size of the program, stripped",
        measured: format!("{:.2} MB", size("rust-claw")?),
        must: "≤ 8 MB",
        reference: "107 MB + Node",
    })
}
