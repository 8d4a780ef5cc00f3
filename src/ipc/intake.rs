//! Takes the files of one group: reads, has them done, responds, removes.

use std::time::Instant;

use serde_json::{Value, json};

use super::Ipc;
use super::execute::{Failed, Requester};
use super::request::{self, Request, RequestId};
use super::watch::{REQUEST_FOLDERS, is_request};
use crate::boundary::{Dir, Kind, Rejected};
use crate::doorbell::{Doorbell, News};
use crate::ids::{ChatJid, GroupFolder, UnixMs, shown};
use crate::limits::{IPC_NAMES_MAX, IPC_REQUEST_BYTES_MAX, IPC_ROUND_MAX};
use crate::store::{self, Begun, Group, Queued, ToolMessage};

/// A request that was read.
struct Taken {
    /// Name of its file.
    name: String,
    id: Option<RequestId>,
    /// The word in its field `type`.
    kind: &'static str,
}

/// The folder of one group's requests while they are taken.
struct Folder<'a> {
    group: Option<&'a Group>,
    of: &'a GroupFolder,
    ipc: &'a Dir,
    /// `messages` or `tasks`.
    name: &'a str,
    dir: &'a Dir,
    /// What lies there can have been done by an earlier life of the program.
    is_left_over: bool,
}

impl Folder<'_> {
    fn requester(&self) -> Requester<'_> {
        Requester { folder: self.of, group: self.group }
    }
}

/// A message that is about to be queued.
struct Sending {
    taken: Taken,
    message: ToolMessage,
}

/// Entries of a folder that lies where a request should, which are removed at a time.
const TREE_ENTRIES_MAX: usize = 1000;

impl Ipc {
    /// Takes some of a group's requests. Tells whether there is more to take.
    pub(super) fn visit(&mut self, folder: &GroupFolder) -> bool {
        let now = Instant::now();
        let Some(place) = self.groups.get_mut(folder) else {
            self.find_folders();
            return self.groups.contains_key(folder);
        };
        let room = place.bucket.available(now).min(IPC_ROUND_MAX);
        if room == 0 {
            return true;
        }
        let ipc = match self.root.sub(folder.as_str()) {
            Ok(ipc) => ipc,
            Err(error) => {
                log::debug!("group={folder} {error}");
                self.groups.remove(folder);
                return false;
            }
        };
        let mut left = room;
        let mut has_more = false;
        for name in REQUEST_FOLDERS {
            match self.visit_folder(folder, &ipc, name, left) {
                Ok((count, more)) => {
                    left -= count;
                    has_more |= more;
                }
                // Nothing was lost: the files are there, and the next poll tries again.
                Err(Failed::Store(error)) => {
                    log::warn!("group={folder} requests wait: {}", crate::chain(&error));
                    return false;
                }
                Err(Failed::Refused(reason)) => log::debug!("group={folder} {name}: {reason}"),
            }
        }
        if let Some(place) = self.groups.get_mut(folder) {
            place.bucket.take(room - left);
            place.is_settled |= !has_more;
        }
        has_more
    }

    /// Takes up to `room` files; tells how many, and whether there are more.
    fn visit_folder(
        &mut self,
        folder: &GroupFolder,
        ipc: &Dir,
        name: &str,
        room: usize,
    ) -> Result<(usize, bool), Failed> {
        let refused = |error: Rejected| Failed::Refused(error.to_string());
        let dir = ipc.sub(name).map_err(refused)?;
        let listing = dir.list(IPC_NAMES_MAX).map_err(refused)?;
        let mut names: Vec<(String, Kind)> = listing
            .entries
            .into_iter()
            .filter(|entry| is_request(&entry.name))
            .map(|entry| (entry.name, entry.kind))
            .collect();
        let Some(place) = self.groups.get_mut(folder) else { return Ok((0, false)) };
        let is_left_over = !place.is_settled;
        place.stuck.retain(|stuck| match stuck.strip_prefix(name) {
            Some(stuck) => names.iter().any(|(name, _)| stuck.strip_prefix('/') == Some(name)),
            None => true,
        });
        names.retain(|(file, _)| !place.stuck.contains(&format!("{name}/{file}")));
        let has_more = room < names.len() || listing.truncated && !names.is_empty();
        names.truncate(room);
        if names.is_empty() {
            return Ok((0, has_more));
        }
        let group = match self.store.group(folder) {
            // One that cannot be read is served by nobody.
            Err(store::Error::Corrupt { .. }) => None,
            group => group?,
        };
        let at = Folder { group: group.as_ref(), of: folder, ipc, name, dir: &dir, is_left_over };
        let mut sending = Vec::new();
        let count = names.len();
        for (file, kind) in names {
            let stuck = match self.take(&at, &file, kind, &mut sending) {
                Ok(is_gone) => !is_gone,
                Err(failed) => {
                    // What came before it is done first, whatever became of this.
                    self.send(&at, std::mem::take(&mut sending))?;
                    return Err(failed);
                }
            };
            if stuck {
                self.stick(&at, &file);
            }
        }
        self.send(&at, sending)?;
        self.spread(folder);
        Ok((count, has_more))
    }

    /// It is done and cannot be removed: it is not done again.
    fn stick(&mut self, at: &Folder<'_>, file: &str) {
        if let Some(place) = self.groups.get_mut(at.of) {
            place.stuck.insert(format!("{}/{file}", at.name));
        }
    }

    /// Takes one file. Tells whether it is dealt with: removed, or in `sending`.
    fn take(
        &mut self,
        at: &Folder<'_>,
        file: &str,
        kind: Kind,
        sending: &mut Vec<Sending>,
    ) -> Result<bool, Failed> {
        if kind == Kind::Directory {
            let reason = "it is a directory, not a regular file";
            log::warn!("group={} request is of no use: {reason}", at.of);
            self.quarantine.keep(at.of, file, None, reason);
            return Ok(removed(at, &at.dir.remove_tree(file, TREE_ENTRIES_MAX)));
        }
        let bytes = match at.dir.read(file, IPC_REQUEST_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(Rejected::NotFound { .. }) => return Ok(true),
            Err(error) => return Ok(self.discard(at, file, None, None, &crate::chain(&error))),
        };
        let (id, request) = request::parse(&bytes);
        let request = match request {
            Ok(request) => request,
            Err(reason) => return Ok(self.discard(at, file, id.as_ref(), Some(&bytes), &reason)),
        };
        let taken = Taken { name: file.to_owned(), id, kind: request.kind() };
        log::debug!("group={} request={} file={}", at.of, taken.kind, shown(file));
        if let Request::SendMessage { chat, text, sender } = &request {
            let said = self.said(&at.requester(), &request, chat, text, sender.as_deref());
            return match said {
                Ok(text) => {
                    let message = tool_message(at, &taken, chat, text, &bytes);
                    sending.push(Sending { taken, message });
                    Ok(true)
                }
                Err(Failed::Refused(reason)) => Ok(self.finish(at, &taken, &Err(reason))),
                Err(failed) => Err(failed),
            };
        }
        // In the order of their names.
        self.send(at, std::mem::take(sending))?;
        self.do_once(at, &taken, &request)
    }

    /// Does a request that is no message; one that changes something, at most once.
    fn do_once(
        &mut self,
        at: &Folder<'_>,
        taken: &Taken,
        request: &Request,
    ) -> Result<bool, Failed> {
        let now = UnixMs::now();
        if !request.is_change() {
            let outcome = self.outcome(at, request, now)?;
            return Ok(self.finish(at, taken, &outcome));
        }
        let key = match &taken.id {
            Some(id) => format!("id:{}", id.as_str()),
            None => format!("file:{}", taken.name),
        };
        let response = match self.store.begin_request(at.of, &key, now)? {
            Begun::New => {
                crate::crash_point("request_begun");
                let outcome = match self.outcome(at, request, now) {
                    Ok(outcome) => outcome,
                    Err(failed) => {
                        self.store.forget_request(at.of, &key)?;
                        return Err(failed);
                    }
                };
                crate::crash_point("request_done");
                let response = response(&outcome);
                if taken.id.is_some() {
                    self.store.end_request(at.of, &key, &response)?;
                }
                response
            }
            Begun::Done(response) => response,
            Begun::CutShort => {
                log::warn!("group={} request={} was cut short", at.of, taken.kind);
                let reason = "the program ended while it did this: look whether it was done \
                              before you ask again";
                response(&Err(reason.to_owned()))
            }
        };
        let is_gone = self.respond_and_remove(at, taken, &response);
        if taken.id.is_none() && is_gone {
            // Nobody can repeat it; another of that name is another request.
            self.store.forget_request(at.of, &key)?;
        }
        Ok(is_gone)
    }

    fn outcome(
        &mut self,
        at: &Folder<'_>,
        request: &Request,
        now: UnixMs,
    ) -> Result<Result<Value, String>, Failed> {
        let kind = request.kind();
        match self.execute(&at.requester(), request, now) {
            Ok(data) => Ok(Ok(data)),
            Err(Failed::Refused(reason)) => {
                log::info!("group={} request={kind} not done", at.of);
                Ok(Err(reason))
            }
            Err(failed) => Err(failed),
        }
    }

    /// Queues messages in one transaction, and says so.
    fn send(&mut self, at: &Folder<'_>, sending: Vec<Sending>) -> Result<(), Failed> {
        if sending.is_empty() {
            return Ok(());
        }
        let now = UnixMs::now();
        let (taken, messages): (Vec<_>, Vec<_>) =
            sending.into_iter().map(|sending| (sending.taken, sending.message)).unzip();
        let mut queued = self.store.enqueue_tool(at.of, &messages, now)?;
        if !at.is_left_over {
            // A file without an id that repeats an earlier one to the letter, and cannot be it.
            for n in 0..queued.len() {
                if taken[n].id.is_none()
                    && let Queued::Before(_) = queued[n]
                {
                    let mut again = messages[n].clone();
                    again.dedupe_key += ":";
                    again.dedupe_key += &store::random_hex::<8>();
                    queued[n] = self.store.enqueue_tool(at.of, &[again], now)?[0];
                }
            }
        }
        crate::crash_point("tool_message_queued");
        Doorbell::tell(&self.shared.home, &[News::Answer]);
        for ((taken, message), queued) in taken.iter().zip(&messages).zip(queued) {
            log::info!("group={} outbox={} chat={} by tool", at.of, queued.id(), message.jid);
            let data = json!({ "outbox_id": queued.id().0, "chat_jid": message.jid.as_str(),
                               "state": "queued" });
            if !self.finish(at, taken, &Ok(data)) {
                self.stick(at, &taken.name);
            }
        }
        Ok(())
    }

    /// Puts a file away that is of no use. Tells whether it is gone.
    fn discard(
        &mut self,
        at: &Folder<'_>,
        file: &str,
        id: Option<&RequestId>,
        bytes: Option<&[u8]>,
        reason: &str,
    ) -> bool {
        // The reason may quote what the agent wrote.
        log::warn!("group={} request is of no use; it is in data/ipc/errors", at.of);
        self.quarantine.keep(at.of, file, bytes, reason);
        // Where the id cannot be read, the name of the file stands for it: our runner's are equal.
        let id = id.cloned().or_else(|| RequestId::of_file(file));
        let taken = Taken { name: file.to_owned(), id, kind: "" };
        self.finish(at, &taken, &Err(reason.to_owned()))
    }

    fn finish(&mut self, at: &Folder<'_>, taken: &Taken, outcome: &Result<Value, String>) -> bool {
        self.respond_and_remove(at, taken, &response(outcome))
    }

    /// The response first: after a crash between the two, the request is known and its response
    /// written again.
    fn respond_and_remove(&mut self, at: &Folder<'_>, taken: &Taken, response: &str) -> bool {
        if let Some(id) = &taken.id {
            let name = format!("{}.json", id.as_str());
            let written = at
                .ipc
                .create_sub("responses", 0o700)
                .and_then(|responses| responses.replace(&name, response.as_bytes(), 0o600));
            match written {
                Ok(()) => {
                    self.responses.push_back((Instant::now(), at.of.clone(), name));
                }
                Err(error) => {
                    log::warn!("group={} no response: {}", at.of, crate::chain(&error));
                }
            }
        }
        crate::crash_point("response_written");
        removed(at, &at.dir.remove(&taken.name))
    }
}

fn removed(at: &Folder<'_>, result: &Result<bool, Rejected>) -> bool {
    if let Err(error) = result {
        log::warn!("group={} a request stays: {}", at.of, crate::chain(error));
    }
    result.is_ok()
}

fn response(outcome: &Result<Value, String>) -> String {
    let response = match outcome {
        Ok(data) => json!({ "ok": true, "data": data }),
        Err(reason) => json!({ "ok": false, "error": reason }),
    };
    response.to_string()
}

fn tool_message(
    at: &Folder<'_>,
    taken: &Taken,
    chat: &ChatJid,
    text: String,
    bytes: &[u8],
) -> ToolMessage {
    let folder = at.of;
    let dedupe_key = match &taken.id {
        Some(id) => format!("tool:{folder}:id:{}", id.as_str()),
        None => format!("tool:{folder}:file:{}:{:016x}", taken.name, hash(bytes)),
    };
    ToolMessage { jid: chat.clone(), text, dedupe_key, may_echo: taken.id.is_none() }
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
