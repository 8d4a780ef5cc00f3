use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const OLD: &str = "00000000-0000-4000-8000-000000000001";
const NEW: &str = "00000000-0000-4000-8000-000000000002";

/// A conversation with its time, as the engine's loop drives it.
struct World {
    conversation: Conversation,
    now: Instant,
    start: Instant,
}

fn message(n: u32) -> Message {
    Message::new(format!("text {n}"), (0 < n).then(|| format!("{n}-0.json")), format!("id-{n}"))
}

fn begin(session: Option<&str>) -> World {
    let (conversation, _) = Conversation::begin(message(0), session.map(str::to_owned), Vec::new());
    let now = Instant::now();
    World { conversation, now, start: now }
}

impl World {
    fn step(&mut self, happening: Happening) -> String {
        let effects = self.conversation.step(self.now, happening);
        effects.iter().map(shown).collect::<Vec<_>>().join("; ")
    }

    fn at(&mut self, seconds: u64) -> &mut World {
        self.now = self.start + Duration::from_secs(seconds);
        self
    }

    fn said(&mut self, event: Event) -> String {
        self.step(Happening::Said(event))
    }

    fn began(&mut self, session: &str) -> String {
        self.said(Event::Began { session: session.to_owned() })
    }

    fn took(&mut self, n: u32) -> String {
        self.said(Event::Took { message: format!("id-{n}") })
    }

    fn arrived(&mut self, n: u32) -> String {
        self.step(Happening::Arrived(vec![message(n)]))
    }

    fn answers(&mut self, text: &str) -> String {
        let end = TurnEnd { result: Some(text.to_owned()), ..TurnEnd::default() };
        self.said(Event::Ended(Box::new(end)))
    }

    fn fails(&mut self, text: &str) -> String {
        let end = TurnEnd { is_error: true, result: Some(text.to_owned()), ..TurnEnd::default() };
        self.said(Event::Ended(Box::new(end)))
    }
}

/// An effect in few words.
fn shown(effect: &Effect) -> String {
    match effect {
        Effect::Start { resume } => format!("start {}", resume.as_deref().unwrap_or("new")),
        Effect::Write(message) => format!("write {}", message.text),
        Effect::Taken(name) => format!("taken {name}"),
        Effect::Finish { is_well } => format!("finish {is_well}"),
        Effect::Report(output) => format!(
            "{} {:?} {}{}",
            if output.turn_end == Some(true) { "END" } else { "part" },
            output.consumed.clone().unwrap_or_default(),
            output.result.as_deref().unwrap_or("-"),
            output.error_kind.map_or_else(String::new, |kind| {
                format!(" {kind:?}: {}", output.error.as_deref().unwrap_or("-"))
            }),
        ),
        Effect::Interrupt | Effect::EndInput | Effect::Kill => format!("{effect:?}").to_lowercase(),
    }
}

#[test]
fn a_turn_is_a_frame_and_the_end_comes_when_asked() {
    let (_, effects) = Conversation::begin(message(0), Some(OLD.to_owned()), Vec::new());
    assert_eq!(
        vec![Effect::Start { resume: Some(OLD.to_owned()) }, Effect::Write(message(0))],
        effects
    );
    let mut world = begin(Some(OLD));
    assert_eq!("", world.began(OLD), "the host knows this session");
    assert_eq!("", world.took(0));
    assert_eq!("END [] hello", world.answers("hello"));
    assert_eq!("endinput", world.step(Happening::Closing));
    assert_eq!("", world.step(Happening::Closing), "said again and again");
    assert_eq!("finish true", world.step(Happening::Ended { how: "exit code 0".into() }));
}

#[test]
fn a_new_session_is_reported_before_its_first_answer() {
    let mut world = begin(None);
    assert_eq!("part [] -", world.began(NEW));
    assert_eq!("", world.began(NEW));
    assert_eq!(Some(NEW), world.conversation.session.as_deref());
}

#[test]
fn h04_one_answer_settles_all_that_was_taken_and_nothing_else() {
    let mut world = begin(None);
    world.began(NEW);
    world.took(0);
    assert_eq!("write text 1", world.arrived(1));
    assert_eq!("write text 2", world.arrived(2));
    assert_eq!("write text 3", world.arrived(3));
    assert_eq!("taken 1-0.json", world.took(1));
    assert_eq!("taken 2-0.json", world.took(2));
    assert_eq!("", world.took(2), "said twice, taken once");
    assert_eq!("END [\"1-0.json\", \"2-0.json\"] both", world.answers("both"));
    assert_eq!("taken 3-0.json", world.took(3));
    assert_eq!("END [\"3-0.json\"] third", world.answers("third"));
}

#[test]
fn a_turn_that_took_nothing_was_a_command_or_began_by_itself() {
    let mut world = begin(None);
    world.took(0);
    world.answers("hello");
    world.arrived(1);
    assert_eq!("taken 1-0.json; END [\"1-0.json\"] -", world.answers(""));
    world.arrived(2);
    let own = TurnEnd { origin: true, result: Some("news".into()), ..TurnEnd::default() };
    assert_eq!("END [] news", world.said(Event::Ended(Box::new(own))));
}

#[test]
fn h05_after_close_what_was_written_is_answered_first() {
    let mut world = begin(None);
    world.took(0);
    world.arrived(1);
    assert_eq!("", world.step(Happening::Closing));
    assert_eq!("END [] one", world.answers("one"));
    world.took(1);
    assert_eq!("END [\"1-0.json\"] two; endinput", world.answers("two"));
}

#[test]
fn h16_an_error_is_no_answer_and_ends_the_run() {
    let mut world = begin(Some(OLD));
    world.took(0);
    world.arrived(1);
    world.took(1);
    world.arrived(2);
    assert_eq!(
        "kill; END [\"1-0.json\"] - Billing: the account of the model API has no credit left; \
         finish false",
        world.fails("Credit balance is too low")
    );
}

#[test]
fn a_refused_key_is_reported_at_the_first_retry() {
    let mut world = begin(None);
    assert_eq!(
        "kill; END [] - Credential: the model API refuses the key or token; finish false",
        world.said(Event::Retrying { status: Some(401) })
    );
}

#[test]
fn other_retries_have_a_minute_from_the_first_in_a_row() {
    let mut world = begin(None);
    let busy = || Event::Retrying { status: Some(529) };
    assert_eq!("", world.said(busy()));
    assert_eq!("", world.at(30).said(busy()));
    assert_eq!("", world.at(40).said(Event::Working { error: None }), "it went on");
    assert_eq!(None, world.conversation.due());
    assert_eq!("", world.at(50).said(busy()));
    assert_eq!("", world.at(109).said(busy()));
    assert_eq!(
        "kill; END [] - RateLimit: the model API has no room for us (status 529); finish false",
        world.at(110).said(busy())
    );
}

#[test]
fn a_request_that_went_through_at_last_is_given_its_time() {
    let mut world = begin(None);
    assert_eq!("", world.said(Event::Retrying { status: Some(529) }));
    assert_eq!(None, world.conversation.due(), "the CLI says nothing while it is answered");
    assert_eq!("", world.at(300).step(Happening::Due));
    world.at(301);
    world.took(0);
    assert_eq!("END [] a long story", world.answers("a long story"));
}

#[test]
fn h36_a_dead_session_is_replaced_once_and_the_message_is_said_again() {
    let mut world = begin(Some(OLD));
    world.arrived(1);
    let lost = format!("No conversation found with session ID: {OLD}");
    assert_eq!("kill; start new; write text 0; write text 1", world.fails(&lost));
    assert_eq!("part [] -", world.began(NEW));
    world.took(0);
    assert_eq!("END [] hello", world.answers("hello"));

    let mut world = begin(Some(OLD));
    let how = format!("exit code 1\n{lost}");
    assert_eq!(
        "kill; start new; write text 0",
        world.step(Happening::Ended { how: how.clone() }),
        "also where the CLI just ends"
    );
    let again = world.step(Happening::Ended { how });
    assert!(again.contains("Other") && again.ends_with("finish false"), "{again}");
}

#[test]
fn h37_an_overfull_conversation_is_replaced_with_a_word_about_it() {
    let mut world = begin(Some(OLD));
    world.took(0);
    assert_eq!("END [] one", world.answers("one"));
    world.arrived(1);
    world.took(1);
    assert_eq!("kill; start new; write text 1", world.fails("Prompt is too long"));
    assert_eq!("part [] -", world.began(NEW));
    assert_eq!("taken 1-0.json", world.took(1), "deleting it again does no harm");
    assert_eq!(format!("END [\"1-0.json\"] {OVERFLOW_NOTICE}\n\ntwo"), world.answers("two"));
    world.arrived(2);
    world.took(2);
    assert_eq!("END [\"2-0.json\"] three", world.answers("three"), "said once");

    let mut world = begin(Some(OLD));
    world.fails("Prompt is too long");
    let again = world.fails("Prompt is too long");
    assert!(again.contains("END [] - Overflow"), "no second time: {again}");
}

#[test]
fn a_stop_interrupts_the_turn_and_nothing_more_is_answered() {
    let mut world = begin(None);
    world.took(0);
    world.arrived(1);
    assert_eq!("interrupt", world.step(Happening::Stop));
    assert_eq!(0, world.conversation.room());
    assert_eq!("", world.step(Happening::Stop));
    assert_eq!(
        "kill; END [] - Other: stopped before the end; finish false",
        world.fails("[ede_diagnostic]")
    );

    let mut world = begin(None);
    world.took(0);
    world.step(Happening::Stop);
    assert_eq!("END [] just in time; kill; finish true", world.answers("just in time"));

    let mut world = begin(None);
    world.took(0);
    world.answers("hello");
    assert_eq!("endinput", world.step(Happening::Stop), "nothing to interrupt");
    assert_eq!("finish true", world.step(Happening::Ended { how: String::new() }));
}

#[test]
fn a_cli_that_ignores_the_stop_is_killed_in_time() {
    let mut world = begin(None);
    world.took(0);
    world.step(Happening::Stop);
    assert_eq!(Some(world.start + STOP_MAX), world.conversation.due());
    assert_eq!(
        "kill; END [] - Other: stopped before the end; finish false",
        world.at(STOP_MAX.as_secs()).step(Happening::Due)
    );
}

#[test]
fn a_cli_that_dies_in_a_turn_is_an_error_and_one_that_dies_idle_is_not() {
    let mut world = begin(None);
    world.took(0);
    assert_eq!(
        "kill; END [] - Other: the Claude Code CLI ended in the middle of a turn: signal 9; \
         finish false",
        world.step(Happening::Ended { how: "signal 9\n".into() })
    );
    let mut world = begin(None);
    world.took(0);
    world.answers("hello");
    assert_eq!("finish false", world.step(Happening::Ended { how: "signal 9".into() }));
}

#[test]
fn secrets_do_not_leave_in_an_error() {
    let secrets = vec!["sk-planted".to_owned()];
    let (mut conversation, _) = Conversation::begin(message(0), None, secrets);
    let how = "exit code 1\nbad key sk-planted".to_owned();
    let effects = conversation.step(Instant::now(), Happening::Ended { how });
    assert!(!format!("{effects:?}").contains("planted"));
}

proptest! {
    /// Whatever the CLI and the host do, in whatever order: a follow-up is in one frame at most,
    /// and only after its file was taken.
    #[test]
    fn no_history_settles_a_follow_up_twice_or_unseen(
        choices in prop::collection::vec((0_u8..12, 0_u32..6), 0..80),
    ) {
        let mut world = begin(Some(OLD));
        let (mut next, mut taken, mut settled) = (1, BTreeSet::new(), BTreeSet::new());
        for (choice, n) in choices {
            world.now += Duration::from_secs(u64::from(n) * 7);
            let happening = match choice {
                0 => Happening::Said(Event::Began { session: [OLD, NEW][n as usize % 2].into() }),
                1 | 2 => Happening::Said(Event::Took { message: format!("id-{n}") }),
                3 => Happening::Said(Event::Working { error: None }),
                4 => Happening::Said(Event::Retrying { status: Some(529) }),
                5 | 6 => Happening::Said(Event::Ended(Box::default())),
                7 => Happening::Said(Event::Ended(Box::new(TurnEnd {
                    is_error: true,
                    result: Some(["Prompt is too long", "boom"][n as usize % 2].to_owned()),
                    ..TurnEnd::default()
                }))),
                8 => Happening::Closing,
                9 => Happening::Due,
                10 if n == 0 => Happening::Stop,
                11 if n == 0 => Happening::Ended { how: String::new() },
                _ => {
                    next += 1;
                    Happening::Arrived(vec![message(next - 1)])
                }
            };
            let effects = world.conversation.step(world.now, happening);
            for effect in &effects {
                match effect {
                    Effect::Taken(name) => {
                        taken.insert(name.clone());
                    }
                    Effect::Report(output) => {
                        for name in output.consumed.iter().flatten() {
                            prop_assert!(taken.contains(name), "{name} was never taken");
                            prop_assert!(settled.insert(name.clone()), "{name} settled twice");
                        }
                    }
                    _ => {}
                }
            }
            if effects.iter().any(|effect| matches!(effect, Effect::Finish { .. })) {
                break;
            }
        }
    }
}
