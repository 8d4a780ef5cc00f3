//! The friend's phone: Baileys in a process of its own, driven by `friend/friend.mjs`.
//!
//! What happens there is a list that only grows. [`Friend::next`] goes through it in order, so
//! that "typing, then the answer" is two calls; [`Friend::find`] looks at all of it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// After this a wait has failed; a busy machine may take long for anything.
const PATIENCE: Duration = Duration::from_secs(45);

/// What it said so far.
#[derive(Default)]
struct Said {
    events: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, (Vec<Value>, bool)> {
        self.events.lock().expect("nobody panics while holding it")
    }
}

/// Killed when dropped.
pub struct Friend {
    child: Child,
    stdin: ChildStdin,
    said: Arc<Said>,
    /// How many orders were given.
    orders: u64,
    /// Where [`Friend::next`] goes on.
    at: usize,
}

impl Friend {
    /// Starts it; it is not connected yet.
    ///
    /// # Panics
    /// Where `node` does not start. Where `CLAW_TEST_BAILEYS` is not set, at the first wait.
    pub fn start() -> Friend {
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("friend/friend.mjs");
        let mut command = Command::new("node");
        command.arg(driver).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("`node` starts");
        let stdin = child.stdin.take().expect("was asked for");
        let stdout = BufReader::new(child.stdout.take().expect("was asked for"));
        let said = Arc::new(Said::default());
        let to = Arc::clone(&said);
        // Ends with the process, whose output it reads.
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|_| json!({"event": line}));
                to.lock().0.push(event);
                to.more.notify_all();
            }
            to.lock().1 = true;
            to.more.notify_all();
        });
        Friend { child, stdin, said, orders: 0, at: 0 }
    }

    /// The process, to measure it or to kill it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order (`do` and what the driver's command takes) and does not wait; gives its
    /// number.
    ///
    /// # Panics
    /// Where it is dead.
    pub fn order(&mut self, mut order: Value) -> u64 {
        self.orders += 1;
        order["n"] = self.orders.into();
        self.stdin.write_all(format!("{order}\n").as_bytes()).expect("it lives");
        self.orders
    }

    /// Waits until an order is carried out, and gives what came of it.
    ///
    /// # Panics
    /// Where that failed, or does not come in time.
    pub fn done(&self, order: u64) -> Value {
        let answer = self.find(&format!("the end of order {order}"), |event| {
            event["n"] == order && (event["event"] == "done" || event["event"] == "failed")
        });
        assert_eq!("done", answer["event"], "{answer}");
        answer["result"].clone()
    }

    /// An order and its end.
    ///
    /// # Panics
    /// As [`Friend::done`].
    pub fn tell(&mut self, order: Value) -> Value {
        let order = self.order(order);
        self.done(order)
    }

    /// All that happened so far.
    pub fn seen(&self) -> Vec<Value> {
        self.said.lock().0.clone()
    }

    /// Waits for the next event that `is_it`, from the one after the last that was given here.
    ///
    /// # Panics
    /// Where it does not come in time, or the process ended.
    pub fn next(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let (index, event) = self.wait(what, self.at, is_it);
        self.at = index + 1;
        event
    }

    /// Waits for the first of all events that `is_it`.
    ///
    /// # Panics
    /// As [`Friend::next`].
    pub fn find(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, 0, is_it).1
    }

    fn wait(&self, what: &str, from: usize, is_it: impl Fn(&Value) -> bool) -> (usize, Value) {
        let deadline = Instant::now() + PATIENCE;
        let mut at = from;
        let mut said = self.said.lock();
        loop {
            while let Some(event) = said.0.get(at) {
                if is_it(event) {
                    return (at, event.clone());
                }
                at += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || said.1 {
                let why = if said.1 { "its process ended" } else { "the time is up" };
                let events: Vec<String> = said.0.iter().map(Value::to_string).collect();
                drop(said);
                panic!("the friend does not have {what} ({why}):\n{}", events.join("\n"));
            }
            said = self.said.more.wait_timeout(said, left).expect("nobody panics").0;
        }
    }

    // ---- What a friend does.

    /// Connects to a server whose certificates go back to `root`; media go to `media`.
    ///
    /// # Panics
    /// As [`Friend::done`].
    pub fn connect(&mut self, url: &str, root: &[u8], media: Option<&str>) {
        let root = root.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        self.tell(json!({"do": "connect", "url": url, "root": root, "media": media}));
    }

    /// Waits for the next code to scan.
    ///
    /// # Panics
    /// As [`Friend::next`].
    pub fn qr(&mut self) -> String {
        let event = self.next("a code to scan", |event| event["event"] == "qr");
        event["qr"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until it is online.
    ///
    /// # Panics
    /// As [`Friend::next`].
    pub fn online(&mut self) -> Value {
        self.next("a connection", |event| event["event"] == "open")
    }

    /// Cuts its connection.
    ///
    /// # Panics
    /// As [`Friend::done`].
    pub fn drop_connection(&mut self) {
        self.tell(json!({"do": "drop"}));
    }

    /// Comes back.
    ///
    /// # Panics
    /// As [`Friend::done`] and [`Friend::next`].
    pub fn reconnect(&mut self) {
        self.at = self.said.lock().0.len();
        self.tell(json!({"do": "reconnect"}));
        self.online();
    }

    /// Sends a text and gives its id; what Baileys takes beside `content` may stand in `more`.
    ///
    /// # Panics
    /// As [`Friend::done`].
    pub fn send_with(&mut self, to: &str, content: &Value, more: Value) -> String {
        let mut order = more;
        order["do"] = "send".into();
        order["to"] = to.into();
        order["content"] = content.clone();
        self.tell(order).as_str().expect("an id").to_owned()
    }

    /// Sends a text and gives its id.
    ///
    /// # Panics
    /// As [`Friend::done`].
    pub fn send(&mut self, to: &str, text: &str) -> String {
        self.send_with(to, &json!({"text": text}), json!({}))
    }

    /// Sends texts, in order, without waiting between them.
    ///
    /// # Panics
    /// As [`Friend::done`].
    pub fn burst(&mut self, to: &str, texts: impl IntoIterator<Item = String>) {
        let orders: Vec<u64> = texts
            .into_iter()
            .map(|text| self.order(json!({"do": "send", "to": to, "content": {"text": text}})))
            .collect();
        if let Some(last) = orders.last() {
            self.done(*last);
        }
    }

    /// Waits for the next message with a text, and gives it.
    ///
    /// # Panics
    /// As [`Friend::next`].
    pub fn message(&mut self) -> Value {
        self.next("a message", |event| event["event"] == "message" && event["text"].is_string())
    }

    /// Waits for the next message with a text in a chat, and gives the text.
    ///
    /// # Panics
    /// As [`Friend::next`].
    pub fn text_in(&mut self, chat: &str) -> String {
        let event = self.next(&format!("a message in {chat}"), |event| {
            event["event"] == "message" && event["chat"] == chat && event["text"].is_string()
        });
        event["text"].as_str().unwrap_or_default().to_owned()
    }

    /// The texts that it shows: of all messages that have arrived, in order, each id once.
    pub fn texts(&self) -> Vec<String> {
        let mut shown: Vec<(Value, String)> = Vec::new();
        for event in self.said.lock().0.iter().filter(|event| event["event"] == "message") {
            if let Some(text) = event["text"].as_str()
                && shown.iter().all(|(id, _)| *id != event["id"])
            {
                shown.push((event["id"].clone(), text.to_owned()));
            }
        }
        shown.into_iter().map(|(_, text)| text).collect()
    }

    /// How many texts have arrived, those twice that came twice.
    pub fn delivery_count(&self) -> usize {
        let said = self.said.lock();
        let messages = said.0.iter().filter(|event| event["event"] == "message");
        messages.filter(|event| event["text"].is_string()).count()
    }

    /// Ids of messages that it could not read, then or later.
    pub fn unread(&self) -> Vec<String> {
        let said = self.said.lock();
        let ids = |event: &'static str| {
            let of = said.0.iter().filter(move |each| each["event"] == event);
            of.filter_map(|each| each["id"].as_str()).collect::<Vec<&str>>()
        };
        let read = ids("message");
        let unread = ids("undecryptable").into_iter().filter(|id| !read.contains(id));
        unread.map(str::to_owned).collect()
    }
}

impl Drop for Friend {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
