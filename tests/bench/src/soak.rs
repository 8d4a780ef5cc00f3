//! A day in an hour, or in as long as one likes: a friend who chats and asks, a line that drops in
//! every way, restarts and power cuts. At the end everything was stored and answered once, and
//! over the second half, which one process lives through, memory, threads and descriptors are flat.
//!
//! Unlike the table this fails where that is not so.

use std::fs;
use std::time::{Duration, Instant};

use rust_claw::ids::ChatJid;
use rust_claw_fake_whatsapp::Fault;

use crate::Outcome;
use crate::bed::{Bed, Place, Served, folder};
use crate::phone::{self, OWNER, Phones, is_online};
use crate::table::{mb, note};

const GROUPS: usize = 3;
/// Idle chatter between two questions.
const TEXTS_PER_QUESTION: usize = 10;
/// A question comes as often; the program's own pace is below that.
const QUESTION_EVERY: Duration = Duration::from_secs(4);
/// Something goes wrong with the line as often.
const FAULT_EVERY: Duration = Duration::from_secs(20);
/// How long what lasts of these lasts.
const FAULT_LASTS: Duration = Duration::from_secs(5);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const SAY_EVERY: Duration = Duration::from_mins(1);
/// Restarts in the first half.
const RESTARTS: u32 = 6;
/// How long the last answers may take.
const GIVE_UP: Duration = Duration::from_mins(5);

/// What may be more at the end of the second half than at its beginning.
pub(crate) const RSS_KIB_MAX: u64 = 2048;
pub(crate) const THREADS_MAX: u64 = 1;
pub(crate) const DESCRIPTORS_MAX: u64 = 2;

/// What the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sample {
    pub(crate) rss_kib: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
}

/// What goes wrong with the line, in turn.
const FAULTS: [Fault; 8] = [
    Fault::Hangup,
    Fault::Close,
    Fault::StreamError(503),
    Fault::Freeze,
    Fault::CloseWith(1011),
    Fault::StreamError(515),
    Fault::Refuse(true),
    Fault::LoseAcks(1),
];

struct Soak {
    phones: Phones,
    bed: Bed,
    chats: Vec<ChatJid>,
    served: Served,
    sent_count: usize,
    question_count: usize,
    fault_count: usize,
    restart_count: u32,
}

/// # Errors
/// Something is lost, said twice, or grows.
pub(crate) fn run(lasts: Duration) -> Outcome<()> {
    let mut soak = Soak::new()?;
    let begun = Instant::now();
    let half = lasts / 2;
    let mut samples = Vec::new();
    let mut next_fault = begun + FAULT_EVERY;
    let mut next_sample = begun + half;
    let mut next_word = begun + SAY_EVERY;
    while begun.elapsed() < lasts {
        let round = Instant::now();
        soak.talk();
        if next_fault <= round {
            soak.cause();
            next_fault = Instant::now() + FAULT_EVERY;
        }
        let due = half / (RESTARTS + 1) * (soak.restart_count + 1);
        if soak.restart_count < RESTARTS && due <= begun.elapsed() {
            soak.restart()?;
        }
        if next_sample <= round {
            samples.push(sample(&soak.served)?);
            next_sample = round + SAMPLE_EVERY;
        }
        if next_word <= round {
            soak.tell(begun.elapsed())?;
            next_word = round + SAY_EVERY;
        }
        std::thread::sleep(QUESTION_EVERY.saturating_sub(round.elapsed()));
    }
    soak.settle()?;
    soak.tell(begun.elapsed())?;
    soak.served.stop()?;
    judge(&samples)
}

impl Soak {
    fn new() -> Outcome<Soak> {
        let phones = Phones::new()?;
        let mut bed = Bed::new(Place::Disk, 0)?;
        bed.env = phone::settings(&phones.server).into();
        phones.link(&bed)?;
        let mut chats = Vec::new();
        for number in 0..GROUPS {
            chats.push(phones.group(&mut bed.store, folder(number))?);
        }
        let (served, _) = bed.serve(5)?;
        bed.wait(is_online)?;
        Ok(Soak {
            phones,
            bed,
            chats,
            served,
            sent_count: 0,
            question_count: 0,
            fault_count: 0,
            restart_count: 0,
        })
    }

    /// Some words among friends, and a question.
    fn talk(&mut self) {
        let chat = self.chats[self.question_count % GROUPS].as_str();
        let texts = (0..TEXTS_PER_QUESTION).map(|number| format!("chatter {number}"));
        let question = format!("@Andy {} bench:once", self.question_count);
        self.phones.friend.burst(chat, texts.chain([question]));
        self.sent_count += TEXTS_PER_QUESTION + 1;
        self.question_count += 1;
    }

    fn cause(&mut self) {
        let fault = FAULTS[self.fault_count % FAULTS.len()];
        self.fault_count += 1;
        let server = &self.phones.server;
        server.fault_for(OWNER, fault);
        let end = match fault {
            Fault::Freeze => Fault::Thaw,
            Fault::Refuse(_) => {
                // Refusing is about connections to come.
                server.fault_for(OWNER, Fault::Hangup);
                Fault::Refuse(false)
            }
            _ => return,
        };
        std::thread::sleep(FAULT_LASTS);
        server.fault_for(OWNER, end);
    }

    /// In turn a polite restart and a power cut.
    fn restart(&mut self) -> Outcome<()> {
        if self.restart_count.is_multiple_of(2) {
            self.served.stop()?;
        } else {
            self.served.kill()?;
        }
        self.restart_count += 1;
        self.served = self.bed.serve(5)?.0;
        Ok(())
    }

    /// Waits until all is answered, and counts.
    fn settle(&self) -> Outcome<()> {
        let give_up = Instant::now() + GIVE_UP;
        while self.phones.friend.texts().len() < self.question_count && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(100));
        }
        let answers = self.phones.friend.texts().len();
        if answers != self.question_count {
            return Err(format!("{} questions, {answers} answers", self.question_count).into());
        }
        let unread = self.phones.friend.unread();
        if !unread.is_empty() {
            return Err(format!("the friend cannot read {unread:?}").into());
        }
        let stored = usize::try_from(self.bed.store.newest_seq()?.0)?;
        if stored != self.sent_count {
            return Err(format!("{} messages were sent, {stored} stored", self.sent_count).into());
        }
        Ok(())
    }

    fn tell(&self, since: Duration) -> Outcome<()> {
        let Sample { rss_kib, threads, descriptors } = sample(&self.served)?;
        note(&format!(
            "{:>5} s: {} messages, {} questions, {} answers; {} faults, {} restarts; RSS {:.1} MB, \
             {threads} threads, {descriptors} descriptors",
            since.as_secs(),
            self.sent_count,
            self.question_count,
            self.phones.friend.texts().len(),
            self.fault_count,
            self.restart_count,
            mb(rss_kib),
        ))
    }
}

pub(crate) fn sample(served: &Served) -> Outcome<Sample> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", served.pid()))?.count();
    Ok(Sample {
        rss_kib: served.status("VmRSS")?,
        threads: served.status("Threads")?,
        descriptors: u64::try_from(descriptors)?,
    })
}

/// Compares the first third with the last.
fn judge(samples: &[Sample]) -> Outcome<()> {
    let third = samples.len() / 3;
    if third == 0 {
        return note("too short to say whether anything grows");
    }
    let medians = |of: fn(&Sample) -> u64| {
        let median = |part: &[Sample]| {
            let mut values: Vec<u64> = part.iter().map(of).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        (median(&samples[..third]), median(&samples[samples.len() - third..]))
    };
    let mut grown = Vec::new();
    for (what, of, more_max) in [
        ("RSS in KiB", (|sample| sample.rss_kib) as fn(&Sample) -> u64, RSS_KIB_MAX),
        ("threads", |sample| sample.threads, THREADS_MAX),
        ("descriptors", |sample| sample.descriptors, DESCRIPTORS_MAX),
    ] {
        let (first, last) = medians(of);
        note(&format!("{what}: {first} at first, {last} at last"))?;
        if first + more_max < last {
            grown.push(what);
        }
    }
    if grown.is_empty() { Ok(()) } else { Err(format!("grows: {}", grown.join(", ")).into()) }
}
