//! A request to the host: a file that it takes, and a file with its response.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rust_claw_protocol::{env, inside};
use serde_json::{Map, Value};

/// How long the host may take.
const RESPONSE_MAX: Duration = Duration::from_secs(30);
/// A response most often comes within some milliseconds.
const SOON: Duration = Duration::from_millis(250);
/// Pause between two looks, at first and later.
const PAUSES: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(10));
/// What we read of a response at most; the host's own are smaller.
const RESPONSE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The host, as it is seen from here.
pub(super) struct Host {
    folder: PathBuf,
    response_max: Duration,
    count: AtomicU32,
}

impl Host {
    /// Behind the folder that the sandbox shares with it.
    pub(super) fn from_env() -> Host {
        let folder = std::env::var_os(env::IPC).unwrap_or_else(|| inside::IPC.into());
        Host::at(PathBuf::from(folder), RESPONSE_MAX)
    }

    pub(super) fn at(folder: PathBuf, response_max: Duration) -> Host {
        Host { folder, response_max, count: AtomicU32::new(0) }
    }

    /// Lays a request into `folder` and waits for what the host says.
    ///
    /// # Errors
    /// The host's reason, or why nothing is known of it: a sentence for the agent.
    pub(super) fn ask(
        &self,
        folder: &str,
        mut request: Map<String, Value>,
        is_cancelled: &AtomicBool,
    ) -> Result<Value, String> {
        let id = self.new_id();
        request.insert("requestId".to_owned(), id.clone().into());
        let (folder, name) = (self.folder.join(folder), format!("{id}.json"));
        put(&folder, &name, &Value::Object(request).to_string())
            .map_err(|error| format!("not sent: cannot write the request: {error}"))?;
        let response = self.folder.join("responses").join(&name);
        match self.wait(&response, is_cancelled) {
            Some(text) => read(&text),
            None if fs::remove_file(folder.join(&name)).is_ok() => {
                Err("not done: the host did not take the request".to_owned())
            }
            None => Err("the host took the request and did not respond in time: it may have been \
                         done or not"
                .to_owned()),
        }
    }

    fn wait(&self, response: &Path, is_cancelled: &AtomicBool) -> Option<Vec<u8>> {
        let since = Instant::now();
        loop {
            // It is put there whole, under another name first.
            if let Ok(about) = fs::metadata(response)
                && about.len() <= RESPONSE_BYTES_MAX
                && let Ok(text) = fs::read(response)
            {
                // If it stays, the host removes it some time.
                fs::remove_file(response).ok();
                return Some(text);
            }
            let waited = since.elapsed();
            if self.response_max < waited || is_cancelled.load(Ordering::Acquire) {
                return None;
            }
            std::thread::sleep(if waited < SOON { PAUSES.0 } else { PAUSES.1 });
        }
    }

    /// Sorts by time, and is never given twice in a sandbox.
    fn new_id(&self) -> String {
        let ms = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{ms:013}-{count:06}-{}", std::process::id())
    }
}

/// The host takes what ends with `.json`, so the name comes last.
fn put(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.tmp"));
    fs::write(&temporary, text)?;
    fs::rename(temporary, folder.join(name))
}

fn read(text: &[u8]) -> Result<Value, String> {
    let mut response: Value = serde_json::from_slice(text)
        .map_err(|error| format!("the host's response is not usable: {error}"))?;
    if response["ok"] == true {
        return Ok(response["data"].take());
    }
    Err(match response["error"].as_str() {
        Some(reason) => format!("refused: {reason}"),
        None => "refused, without a reason".to_owned(),
    })
}
