//! Ten thousand ends of the connection, each by another code as soon as it is online again. One
//! program makes no more than ten attempts a minute, whatever it is told, so many do it side by
//! side, each for an account of its own; a person cuts their pauses short, as `reconnect` does.
//!
//! Fails where a device ever has two connections, comes too often, does not end online and
//! answering, or holds more at the end than after its first ends.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rust_claw::ids::{ChatJid, UnixMs};
use rust_claw::limits::LINK_ATTEMPTS_MAX;
use rust_claw::store::{ContainerConfig, NewGroup};
use rust_claw_fake_whatsapp::{Account, Fault, Server};

use crate::Outcome;
use crate::bed::{Bed, Place, Served, folder};
use crate::phone::{self, ADA};
use crate::soak::{DESCRIPTORS_MAX, RSS_KIB_MAX, Sample, THREADS_MAX, sample};
use crate::table::{mb, note};

/// Programs side by side.
const PROGRAMS: usize = 120;
/// So many are linked at a time, since each mostly waits for its phone.
const LINKED_AT_ONCE: usize = 8;
/// What each holds is flat from here on.
const WARM: usize = 20;
const SAY_EVERY: usize = 1000;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long nobody cuts pauses short at the end.
const CALM: Duration = Duration::from_mins(3);
/// From the last end until all is well again: longer than the longest pause.
const GIVE_UP: Duration = Duration::from_mins(6);

/// After these it comes back by itself, within seconds or minutes.
const PASSING: [Fault; 14] = [
    Fault::Hangup,
    Fault::Close,
    Fault::CloseWith(1011),
    Fault::CloseWith(4000),
    Fault::StreamError(400),
    Fault::StreamError(408),
    Fault::StreamError(428),
    Fault::StreamError(499),
    Fault::StreamError(500),
    Fault::StreamError(503),
    Fault::StreamError(515),
    Fault::FailureOnce(429),
    Fault::FailureOnce(500),
    Fault::FailureOnce(503),
];
/// After these not for so long that only a person ends the wait. What unlinks a device is left
/// out: a released program can be linked again by WhatsApp alone.
const LASTING: [Fault; 4] =
    [Fault::StreamError(440), Fault::Replace, Fault::FailureOnce(402), Fault::FailureOnce(405)];

/// A program and its account.
struct Device {
    number: String,
    bed: Bed,
    program: Served,
    end_count: usize,
    warm: Option<Sample>,
}

/// # Errors
/// See above.
pub(crate) fn run(count: usize) -> Outcome<()> {
    let server = &Server::start();
    let ada = &server.account(ADA, "Ada");
    let linker = &phone::program_of_tests()?;
    let mut devices = Vec::new();
    while devices.len() < PROGRAMS.min(count) {
        let numbers = devices.len()..PROGRAMS.min(count).min(devices.len() + LINKED_AT_ONCE);
        let made: Vec<Result<Device, String>> = thread::scope(|scope| {
            let link = |number| {
                let device = Device::new(server, ada, linker, number);
                device.map_err(|error| rust_claw::chain(error.as_ref()))
            };
            let threads: Vec<_> = numbers.map(|number| scope.spawn(move || link(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        for device in made {
            devices.push(device?);
        }
    }
    let begun = Instant::now();
    let faults = [PASSING.as_slice(), &LASTING].concat();
    let (mut end_count, mut said_count) = (0, 0);
    while end_count < count {
        for device in &mut devices {
            if end_count < count && device.end(server, &faults)? {
                end_count += 1;
            } else {
                device.hurry()?;
            }
        }
        if said_count < end_count / SAY_EVERY {
            said_count = end_count / SAY_EVERY;
            tell(server, &devices, begun, end_count)?;
        }
        thread::sleep(LOOK_EVERY);
    }
    for device in &mut devices {
        device.settle(server, "all these", Device::hurry)?;
    }
    tell(server, &devices, begun, end_count)?;
    check_growth(&devices)?;
    calm(server, &mut devices)
}

/// As above, with nobody who cuts pauses short.
fn calm(server: &Server, devices: &mut [Device]) -> Outcome<()> {
    let begun = Instant::now();
    let mut end_count = 0;
    while begun.elapsed() < CALM {
        for device in &mut *devices {
            end_count += usize::from(device.end(server, &PASSING)?);
        }
        thread::sleep(LOOK_EVERY);
    }
    for device in &mut *devices {
        device.settle(server, "a calm time", |_| Ok(()))?;
    }
    note("nobody cuts pauses short:")?;
    tell(server, devices, begun, end_count)?;
    devices.iter_mut().try_for_each(|device| device.program.stop())
}

impl Device {
    fn new(server: &Server, ada: &Account, linker: &Path, number: usize) -> Outcome<Device> {
        let digits = format!("49155510{number:05}");
        server.account(&digits, "Olga");
        let mut bed = Bed::new(Place::Disk, 0)?;
        bed.env = phone::settings(server).into();
        phone::link(server, linker, &digits, &bed)?;
        let new = NewGroup {
            jid: ChatJid::new(&ada.pn.to_string())?,
            name: "Ada".to_owned(),
            folder: folder(0),
            trigger_name: None,
            requires_trigger: false,
            is_main: false,
            attach: false,
            config: ContainerConfig::default(),
        };
        bed.store.register_group(&new, UnixMs::now())?;
        let program = bed.serve(1)?.0;
        let mut device = Device { number: digits, bed, program, end_count: 0, warm: None };
        // What a first answer takes is not what disconnects leave behind.
        device.settle(server, "the start", Device::hurry)?;
        Ok(device)
    }

    fn is_online(&self, server: &Server) -> Outcome<bool> {
        Ok(server.is_online(&self.number) && phone::is_online(&self.bed.store)?.is_some())
    }

    /// Ends the connection, if there is one.
    fn end(&mut self, server: &Server, faults: &[Fault]) -> Outcome<bool> {
        if !self.is_online(server)? {
            return Ok(false);
        }
        if self.end_count == WARM {
            self.warm = Some(sample(&self.program)?);
        }
        let fault = faults[self.end_count % faults.len()];
        server.fault_for(&self.number, fault);
        if matches!(fault, Fault::FailureOnce(_)) {
            // It is about the next login.
            server.fault_for(&self.number, Fault::Hangup);
        }
        self.end_count += 1;
        Ok(true)
    }

    /// Cuts a pause short, but not the one that no person can.
    fn hurry(&mut self) -> Outcome<()> {
        let shown = phone::state(&self.bed.store, "whatsapp")?;
        let waits =
            matches!(shown["state"].as_str(), Some("backoff" | "replaced" | "outdated" | "banned"));
        let is_bound =
            shown["reason"].as_str().is_some_and(|why| why.contains("too many attempts"));
        if waits && !is_bound {
            self.bed.store.set_state("whatsapp.wanted", r#"{"what":"reconnect"}"#)?;
            self.bed.bell.ring_others();
        }
        Ok(())
    }

    /// Waits until it is online and answers; meanwhile a person may `help`.
    fn settle(
        &mut self,
        server: &Server,
        after: &str,
        help: fn(&mut Device) -> Outcome<()>,
    ) -> Outcome<()> {
        let number = self.number.clone();
        let answers = || {
            server.journal(|journal| {
                let seen = journal.seen.iter().filter(|seen| seen.phone == ADA);
                seen.filter(|seen| seen.text().is_some() && seen.sender.user == *number).count()
            })
        };
        let before = answers();
        server.say_text(ADA, &self.number, &format!("still there after {after}? bench:once"));
        let give_up = Instant::now() + GIVE_UP;
        while !(before < answers() && self.is_online(server)?) {
            if give_up < Instant::now() {
                return Err(format!("{} does not answer after {after}", self.number).into());
            }
            help(self)?;
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Attempts in the worst minute.
    ///
    /// # Errors
    /// Two connections at a time, or more attempts than it may make.
    fn attempts(&self, server: &Server, since: Instant) -> Outcome<usize> {
        let at_once = server.max_connections_at_once(&self.number);
        if at_once != 1 {
            return Err(format!("{} had {at_once} connections at once", self.number).into());
        }
        let times: Vec<Instant> = server.journal(|journal| {
            let own = |jid: &rust_claw_fake_whatsapp::Jid| jid.user == *self.number;
            let all = journal.connections.iter();
            let of_device = all.filter(|one| one.device.as_ref().is_some_and(own));
            of_device.map(|one| one.opened).filter(|at| since <= *at).collect()
        });
        let minute = Duration::from_mins(1);
        let within =
            |from: &Instant| times.iter().filter(|at| (*from..*from + minute).contains(at)).count();
        let most = times.iter().map(within).max().unwrap_or_default();
        // The first of a minute may have been made before it, and have come in it.
        if LINK_ATTEMPTS_MAX + 1 < most {
            return Err(format!("{} came {most} times in a minute", self.number).into());
        }
        Ok(most)
    }
}

fn tell(server: &Server, devices: &[Device], since: Instant, end_count: usize) -> Outcome<()> {
    let mut most = 0;
    let mut samples = Vec::new();
    for device in devices {
        most = most.max(device.attempts(server, since)?);
        samples.push(sample(&device.program)?);
    }
    let median = |of: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(of).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    note(&format!(
        "{:>5} s: {end_count} ends of {} programs; at most {most} attempts of one in a minute; \
         medians: RSS {:.1} MB, {} threads, {} descriptors",
        since.elapsed().as_secs(),
        devices.len(),
        mb(median(|sample| sample.rss_kib)),
        median(|sample| sample.threads),
        median(|sample| sample.descriptors),
    ))
}

/// Compares what each holds now with what it held after its first ends.
fn check_growth(devices: &[Device]) -> Outcome<()> {
    let mut grown = Vec::new();
    let mut rss_more = Vec::new();
    for device in devices {
        let Some(warm) = device.warm else {
            return note("too few ends to say whether anything grows");
        };
        let now = sample(&device.program)?;
        rss_more.push(now.rss_kib.saturating_sub(warm.rss_kib));
        if warm.rss_kib + RSS_KIB_MAX < now.rss_kib
            || warm.threads + THREADS_MAX < now.threads
            || warm.descriptors + DESCRIPTORS_MAX < now.descriptors
        {
            grown.push(format!("{}: {warm:?}, {now:?}", device.number));
        }
    }
    rss_more.sort_unstable();
    note(&format!(
        "more RSS than after {WARM} ends, in KiB: median {}, most {}",
        rss_more[rss_more.len() / 2],
        rss_more[rss_more.len() - 1],
    ))?;
    if grown.is_empty() { Ok(()) } else { Err(format!("grows: {}", grown.join("; ")).into()) }
}
