use proptest::prelude::*;

use super::*;

const START: UnixMs = UnixMs(1_771_506_300_000);
const MINUTE: Duration = Duration::from_mins(1);

/// What the link does, with a server and a person of whom anything can be expected.
struct World {
    machine: Machine,
    up: Duration,
    wall: UnixMs,
    is_open: bool,
    attempts: Vec<Duration>,
    notices: usize,
}

impl World {
    fn new(is_paired: bool, stored: &Value) -> World {
        let now = Now { up: Duration::ZERO, wall: START };
        let (machine, todo) = Machine::start(now, is_paired, stored);
        let mut world = World {
            machine,
            up: now.up,
            wall: now.wall,
            is_open: false,
            attempts: vec![],
            notices: 0,
        };
        world.perform(&todo);
        world
    }

    fn now(&self) -> Now {
        Now { up: self.up, wall: self.wall }
    }

    fn pass(&mut self, time: Duration) {
        self.up += time;
        self.wall = self.wall.plus(time);
    }

    fn tell(&mut self, event: Event) -> Vec<Do> {
        if matches!(event, Event::Ended(_)) {
            self.is_open = false;
        }
        let chance = f64::from(u8::try_from(self.up.as_millis() % 256).expect("below 256")) / 255.0;
        let todo = self.machine.step(self.now(), chance, event);
        self.perform(&todo);
        todo
    }

    fn perform(&mut self, todo: &[Do]) {
        for what in todo {
            match what {
                Do::Connect => {
                    assert!(!self.is_open, "never two connections");
                    self.is_open = true;
                    self.attempts.push(self.up);
                }
                Do::Drop | Do::LogOut => assert!(self.is_open, "there is one to end"),
                Do::Forget => assert!(!self.is_open, "no keys are taken from under a connection"),
                Do::Notify => self.notices += 1,
            }
        }
        assert_eq!(self.is_open, self.machine.is_open(), "{:?}", self.machine.state);
        let recent = self.attempts.iter().filter(|at| self.up < **at + MINUTE).count();
        assert!(recent <= LINK_ATTEMPTS_MAX, "{recent} attempts within a minute");
        match self.machine.state {
            State::Backoff { until, .. } => {
                assert!(until <= self.up + LINK_RETRY_MAX, "no longer than it may");
            }
            State::NeedsPairing { .. } | State::Replaced { .. } | State::Outdated { .. } => {
                assert!(self.machine.act().is_some(), "a person is told what to do");
            }
            _ => {}
        }
    }

    /// One thing that can happen.
    fn turn(&mut self, choice: u8) {
        let events = [
            Event::Tick,
            Event::Online,
            Event::Paired,
            Event::Ended(End::Lost("reset".to_owned())),
            Event::Ended(End::Certificate),
            Event::Ended(End::Removed),
            Event::Ended(End::Replaced),
            Event::Ended(End::Banned(Some(10 * MINUTE))),
            Event::Ended(End::Banned(None)),
            Event::Ended(End::Outdated),
            Event::Ended(End::Unscanned),
            Event::Ended(End::Code(401)),
            Event::Ended(End::Code(428)),
            Event::Ended(End::Code(429)),
            Event::Ended(End::Code(515)),
            Event::Silent,
            Event::NetworkChanged,
            Event::Pair,
            Event::PairingOver,
            Event::Reconnect,
            Event::Unpair,
        ];
        let choice = usize::from(choice);
        match choice.checked_sub(events.len()) {
            None => drop(self.tell(events[choice].clone())),
            Some(0) => self.pass(Duration::from_millis(700)),
            Some(1) => self.pass(Duration::from_secs(20)),
            Some(2) => self.pass(10 * MINUTE),
            // The machine sleeps; the clock is set back.
            Some(3) => self.wall = self.wall.plus(8 * 60 * MINUTE),
            _ => self.wall = UnixMs(self.wall.0 - 86_400_000),
        }
    }

    /// From now on all goes well, and a person does what is asked.
    fn mend(&mut self) {
        let mut is_asked = false;
        for _ in 0..200 {
            match self.machine.state.clone() {
                State::Online => return,
                State::Unpaired | State::NeedsPairing { .. } => {
                    assert!(!is_asked, "once is enough");
                    is_asked = true;
                    self.tell(Event::Pair);
                }
                State::Connecting if self.machine.is_pairing => {
                    self.tell(Event::Paired);
                    self.tell(Event::Ended(End::Code(515)));
                }
                State::Connecting => drop(self.tell(Event::Online)),
                State::Closing(then) => {
                    is_asked &= then != Then::Rest;
                    self.tell(Event::Ended(End::Lost("closed".to_owned())));
                }
                State::Banned { until } => {
                    self.pass(until.since(self.wall));
                    self.tell(Event::Tick);
                }
                _ => {
                    let due = self.machine.due().expect("it goes on by itself");
                    self.pass(due.saturating_sub(self.up));
                    self.tell(Event::Tick);
                }
            }
        }
        panic!("it never comes online: {:?}", self.machine);
    }
}

const CHOICES: u8 = 26;

proptest! {
    #[test]
    fn h62_any_history_is_bounded_and_ends_online(
        choices in prop::collection::vec(0..CHOICES, 0..300), is_paired: bool,
    ) {
        let mut world = World::new(is_paired, &Value::Null);
        for choice in choices {
            // Only what is open can end, or come online.
            if world.is_open || !(1..16).contains(&choice) {
                world.turn(choice);
            }
        }
        world.mend();
    }

    #[test]
    fn h62_pauses_grow_within_their_bounds(failures: u32, chance in 0.0..1.0_f64) {
        let pause = pause(failures, chance);
        prop_assert!((LINK_RETRY_FIRST..=LINK_RETRY_MAX).contains(&pause), "{pause:?}");
        prop_assert!(pause >= super::pause(failures.saturating_sub(1), 0.0));
    }
}

#[test]
fn h62_all_short_histories() {
    for is_paired in [false, true] {
        for n in 0..u32::from(CHOICES).pow(3) {
            let base = u32::from(CHOICES);
            let mut world = World::new(is_paired, &Value::Null);
            for digit in [n % base, n / base % base, n / base / base] {
                let choice = u8::try_from(digit).expect("below the base");
                if world.is_open || !(1..16).contains(&choice) {
                    world.turn(choice);
                }
            }
            world.mend();
        }
    }
}

#[test]
fn h62_every_code_has_a_meaning() {
    let check = |codes: &[u16], expected| {
        for code in codes {
            assert_eq!(expected, meaning(*code), "{code}");
        }
    };
    check(&[401, 403, 406, 411, 516], Meaning::NeedsPairing);
    check(&[402], Meaning::Banned);
    check(&[405], Meaning::Outdated);
    check(&[409, 440], Meaning::Replaced);
    check(&[515], Meaning::Restart);
    check(&[429], Meaning::Slower);
    check(&[400, 408, 428, 499, 500, 501, 503, 1006, 0], Meaning::Again);
}

#[test]
fn h62_ten_thousand_forced_ends_by_every_code() {
    let codes = [401, 403, 405, 408, 428, 440, 499, 500, 503, 515];
    let mut world = World::new(true, &Value::Null);
    for n in 0..10_000 {
        world.mend();
        world.pass(Duration::from_millis(n * 7 % 60_000));
        world.tell(Event::Ended(End::Code(codes[usize::try_from(n).expect("small") % 10])));
    }
    world.mend();
    let most = world
        .attempts
        .windows(LINK_ATTEMPTS_MAX + 1)
        .filter(|w| w[LINK_ATTEMPTS_MAX] < w[0] + MINUTE);
    assert_eq!(0, most.count());
}

#[test]
fn h62_a_pause_is_reset_by_a_connection_that_lasts() {
    let mut world = World::new(true, &Value::Null);
    let lost = || Event::Ended(End::Lost("reset".to_owned()));
    let pause = |world: &World| world.machine.due().expect("a pause").saturating_sub(world.up);
    let mut before = Duration::ZERO;
    for _ in 0..5 {
        world.tell(lost());
        assert!(before < pause(&world), "it grows");
        before = pause(&world);
        world.pass(before);
        world.tell(Event::Tick);
        world.tell(Event::Online);
    }
    world.pass(LINK_STABLE_MIN);
    world.tell(lost());
    assert!(pause(&world) <= LINK_RETRY_FIRST.mul_f64(1.5));
}

#[test]
fn h62_reconnect_network_and_sleep_cut_a_pause_short() {
    let asleep: fn(&mut World) -> Vec<Do> = |world| {
        world.tell(Event::Tick);
        world.wall = world.wall.plus(8 * 60 * MINUTE);
        world.tell(Event::Tick)
    };
    let ways: [fn(&mut World) -> Vec<Do>; 3] =
        [|world| world.tell(Event::Reconnect), |world| world.tell(Event::NetworkChanged), asleep];
    for way in ways {
        let mut world = World::new(true, &Value::Null);
        world.tell(Event::Ended(End::Lost("reset".to_owned())));
        assert_eq!(vec![Do::Connect], way(&mut world));
        world.tell(Event::Online);
        // What is open is open on this side alone.
        assert_eq!(vec![Do::Drop], way(&mut world));
        assert_eq!(vec![Do::Connect], world.tell(Event::Ended(End::Lost(String::new()))));
    }
}

#[test]
fn h62_a_clock_that_is_set_back_changes_nothing() {
    let mut world = World::new(true, &Value::Null);
    world.tell(Event::Online);
    world.wall = UnixMs(world.wall.0 - 86_400_000);
    assert!(world.tell(Event::Tick).is_empty());
    assert_eq!(State::Online, world.machine.state);
}

#[test]
fn h63_an_outdated_version_is_said_and_tried_again_slowly() {
    let mut world = World::new(true, &Value::Null);
    assert_eq!(vec![Do::Notify], world.tell(Event::Ended(End::Outdated)));
    let shown = world.machine.shown(world.now());
    assert_eq!("outdated", shown["state"]);
    assert!(shown["act"].as_str().expect("something to do").contains("WHATSAPP_VERSION"));
    assert_eq!(Some(LINK_OUTDATED_RETRY), world.machine.due());
    world.pass(LINK_OUTDATED_RETRY);
    assert_eq!(vec![Do::Connect], world.tell(Event::Tick));
    assert_eq!(Vec::<Do>::new(), world.tell(Event::Ended(End::Code(405))), "said once");
}

#[test]
fn h64_unlinked_is_told_once_over_restarts_and_mended_by_a_pairing() {
    let mut world = World::new(true, &Value::Null);
    assert_eq!(vec![Do::Notify], world.tell(Event::Ended(End::Removed)));
    let stored = world.machine.shown(world.now());
    assert_eq!("needs-pairing", stored["state"]);
    let mut world = World::new(true, &stored);
    assert!(world.attempts.is_empty() && world.notices == 0, "no loop by way of the restarts");
    assert_eq!(vec![Do::Forget, Do::Connect], world.tell(Event::Pair));
    world.tell(Event::Paired);
    assert_eq!(vec![Do::Connect], world.tell(Event::Ended(End::Code(515))));
    world.tell(Event::Online);
    assert_eq!(vec![Do::Notify], world.tell(Event::Ended(End::Code(401))), "it is news again");
}

#[test]
fn a_ban_and_its_end() {
    let mut world = World::new(true, &Value::Null);
    world.tell(Event::Ended(End::Banned(Some(10 * MINUTE))));
    assert_eq!(State::Banned { until: START.plus(10 * MINUTE) }, world.machine.state);
    assert!(world.tell(Event::Tick).is_empty());
    world.pass(10 * MINUTE);
    assert_eq!(vec![Do::Connect], world.tell(Event::Tick));
}

#[test]
fn unpairing_logs_out_and_forgets() {
    let mut world = World::new(true, &Value::Null);
    world.tell(Event::Online);
    assert_eq!(vec![Do::LogOut], world.tell(Event::Unpair));
    let shown = world.machine.shown(world.now());
    assert_ne!("unpaired", shown["state"], "its keys are still there");
    assert_eq!(vec![Do::Forget], world.tell(Event::Ended(End::Removed)));
    assert_eq!(State::Unpaired, world.machine.state);
    assert_eq!(vec![Do::Forget], world.tell(Event::Unpair));
    assert!(world.tell(Event::Reconnect).is_empty());
}
