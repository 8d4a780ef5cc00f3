//! One sandbox while it lives: what it says is recorded, what comes for it is handed in, its limits
//! are kept, and its end is written down.

use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, at, never, select_biased};
use rust_claw_protocol::{CLOSE_FILE, ErrorKind, FollowUp, Output};

use super::places::Place;
use super::prepare::{self, Asked};
use super::progress::{Progress, Step};
use super::run::{Error, say};
use super::task::{self, Doing};
use super::verdict::{End, Standing};
use super::{Control, Job, Shared, notice};
use crate::boundary::{Dir, Rejected};
use crate::credentials::{RunUsage, Token};
use crate::dispatcher::Word;
use crate::doorbell::{Doorbell, News};
use crate::ids::{RunId, UnixMs};
use crate::limits::{FOLLOW_UPS_MAX, HARD_LIMIT_OVER_IDLE, STOP_GRACE};
use crate::queue::{Event, Outcome, Work};
use crate::sandbox::{Running, SandboxEvent};
use crate::store::{NewOutbox, OutboxKind, RunKind, RunState, RunStep, Usage};

/// One sandbox that lives.
pub(super) struct Live<'a> {
    shared: &'a Shared,
    /// What it shows the proxy, where there is one.
    pub(super) token: Option<Token>,
    /// What of the proxy's count is in the run's row.
    counted: RunUsage,
    words: &'a Sender<Word>,
    job: &'a Job,
    asked: &'a Asked,
    id: RunId,
    input: Dir,
    progress: Progress,
    session: Option<String>,
    failure: Option<(ErrorKind, String)>,
    /// The beginning of what was said, of a task.
    task_said: String,
    /// The turn of the task ended well.
    is_task_done: bool,
    turn_count: u32,
    text_count: u32,
    file_count: u32,
    /// When the running turn began; `None` between turns.
    turn_since: Option<Instant>,
    /// Last sign of life.
    active_at: Instant,
    /// When a sandbox that was asked to close is ended.
    close_by: Option<Instant>,
    /// Follow-ups wait in the store for room in the sandbox.
    is_full: bool,
}

impl<'a> Live<'a> {
    /// One that has just started.
    pub(super) fn new(
        shared: &'a Shared,
        words: &'a Sender<Word>,
        job: &'a Job,
        asked: &'a Asked,
        id: RunId,
        input: Dir,
        token: Option<Token>,
    ) -> Live<'a> {
        let started = Instant::now();
        Live {
            shared,
            token,
            counted: RunUsage::default(),
            words,
            job,
            asked,
            id,
            input,
            progress: Progress::new(asked.last_seq),
            session: asked.session.clone(),
            failure: None,
            task_said: String::new(),
            is_task_done: false,
            turn_count: 0,
            text_count: 0,
            file_count: 0,
            turn_since: Some(started),
            active_at: started,
            close_by: None,
            is_full: false,
        }
    }

    /// Follows the sandbox until nothing of it is left, and gives up its place.
    ///
    /// # Errors
    /// What it did cannot be recorded any longer.
    pub(super) fn follow(&mut self, mut running: Running, place: &Place) -> Result<End, Error> {
        let end = loop {
            let due = self.due();
            let timer = due.map_or_else(never, at);
            select_biased! {
                recv(self.job.control) -> control => match control {
                    Ok(Control::Feed) => {
                        if let Err(error) = self.feed() {
                            break Err(error);
                        }
                    }
                    Ok(Control::Close) => self.close(),
                    Ok(Control::Kill) | Err(_) => break Ok(End::Killed),
                },
                recv(running.events) -> event => match event {
                    Ok(event) => {
                        let batch = std::iter::once(event).chain(running.events.try_iter().take(BATCH_MAX));
                        match self.take(batch) {
                            Ok(None) => {}
                            Ok(Some(end)) => break Ok(end),
                            Err(error) => break Err(error),
                        }
                    }
                    Err(_) => break Ok(End::Killed),
                },
                recv(timer) -> _ => if let Some(why) = self.overdue(Instant::now()) {
                    break Ok(End::OutOfTime(why));
                },
            }
        };
        let has_failed = self.failure.is_some();
        let grace = if matches!(end, Ok(End::OutOfTime(_))) { STOP_GRACE } else { Duration::ZERO };
        running.stop(grace);
        place.free();
        let end = end?;
        // What it said before it ended is said.
        self.take(running.events.try_iter())?;
        if !has_failed && !matches!(end, End::Exited(_)) {
            // That it was stopped is our doing, and no failure of its own.
            self.failure = None;
        }
        Ok(end)
    }

    /// The next moment at which a limit may be reached.
    fn due(&self) -> Option<Instant> {
        let turn = self.turn_since.zip(self.asked.turn_max).map(|(since, max)| since + max);
        [Some(self.active_at + self.hard_max()), turn, self.close_by].into_iter().flatten().min()
    }

    /// The hard limit: never before the idle limit had its chance to close politely.
    fn hard_max(&self) -> Duration {
        let settings = &self.shared.settings;
        settings.container_timeout.max(settings.idle_timeout + HARD_LIMIT_OVER_IDLE)
    }

    fn overdue(&self, now: Instant) -> Option<String> {
        if self.close_by.is_some_and(|by| by <= now) {
            return Some(format!(
                "it did not end within {} s of being asked to",
                STOP_GRACE.as_secs()
            ));
        }
        if let (Some(since), Some(max)) = (self.turn_since, self.asked.turn_max)
            && since + max <= now
        {
            return Some(format!("the turn took longer than the group's {} s", max.as_secs()));
        }
        (self.active_at + self.hard_max() <= now)
            .then(|| format!("nothing was heard of it for {} s", self.hard_max().as_secs()))
    }

    /// Hands in what arrived in the chat since the last look.
    fn feed(&mut self) -> Result<(), Error> {
        self.hand_in()?;
        let idle = self.progress.is_idle();
        self.say(Event::Fed { run: self.job.run, idle });
        Ok(())
    }

    /// Writes a follow-up with all that arrived since the last one, if there is room; else when
    /// there is.
    fn hand_in(&mut self) -> Result<(), Error> {
        let chat = &self.asked.chat;
        let before = self.progress.handed();
        self.is_full = self.progress.unread_count() >= FOLLOW_UPS_MAX;
        if !self.is_full
            && self.close_by.is_none()
            && self.shared.store.lock().has_waking_after(chat, before)?
        {
            let batch = self.shared.store.lock().unsettled(chat, Some(before))?;
            let text = self.asked.words(&batch);
            self.file_count += 1;
            let file = format!("{}-{}.json", batch.last_seq, self.file_count);
            let json = serde_json::to_vec(&FollowUp::Message { text })
                .expect("a string always serialises");
            self.progress.feed(file.clone(), batch.last_seq);
            match self.input.replace(&file, &json, 0o600) {
                Ok(()) => {
                    log::info!("run={} group={} follow_up={file}", self.id, self.job.group);
                    if self.turn_since.is_none() {
                        self.turn_since = Some(Instant::now());
                        self.shared.store.lock().record(
                            self.id,
                            &no_step(RunState::Busy),
                            UnixMs::now(),
                        )?;
                        Doorbell::tell(&self.shared.home, &[News::Run]);
                    }
                }
                Err(error) => {
                    // It stays pending: the next sandbox answers it.
                    log::warn!("run={} cannot hand in {file}: {error}", self.id);
                    self.progress.unfeed(&file, before);
                    self.close();
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        if self.close_by.is_none() {
            match self.input.create_new(CLOSE_FILE, 0o600) {
                Ok(_) | Err(Rejected::Exists { .. }) => {}
                Err(error) => log::warn!("run={} cannot ask it to close: {error}", self.id),
            }
            self.close_by = Some(Instant::now() + STOP_GRACE);
        }
    }

    /// Commits what a batch of events means, in one transaction, then tells the dispatcher.
    fn take(&mut self, events: impl Iterator<Item = SandboxEvent>) -> Result<Option<End>, Error> {
        let mut step = no_step(RunState::Busy);
        let mut turn_ended = false;
        let mut end = None;
        // Large frames wait for us outside until those before them are committed.
        let mut large = Vec::new();
        for event in events {
            self.active_at = Instant::now();
            match event {
                SandboxEvent::Frame { output, held } => {
                    turn_ended |= self.frame(&output, &mut step);
                    large.push(held);
                }
                SandboxEvent::BadFrame(bad) => {
                    log::warn!("run={} frame_bytes={} given up: {}", self.id, bad.bytes, bad.why);
                }
                SandboxEvent::Activity => {}
                SandboxEvent::Exited(ended) => end = Some(End::Exited(ended)),
            }
        }
        let idle = self.progress.is_idle();
        let is_task = self.asked.task.is_some();
        if turn_ended && idle && (is_task || self.shared.places.is_one_lacking()) {
            // The queue would say the same, but later.
            self.close();
        }
        if step != no_step(RunState::Busy) || turn_ended {
            if turn_ended && let (Some(proxy), Some(token)) = (&self.shared.proxy, &self.token) {
                let counted = proxy.usage(token);
                step.usage += counted.since(self.counted).into();
                self.counted = counted;
            }
            step.state = if idle { RunState::Idle } else { RunState::Busy };
            crate::crash_point("frame_read");
            self.shared.store.durably(|store| store.record(self.id, &step, UnixMs::now()))?;
            crate::crash_point("outbox_committed");
            if !step.answers.is_empty() || turn_ended {
                Doorbell::tell(&self.shared.home, &[News::Answer, News::Run]);
            }
        }
        if turn_ended {
            if self.is_full {
                self.hand_in()?;
            }
            let idle = self.progress.is_idle();
            if idle {
                self.turn_since = None;
            }
            self.say(Event::TurnEnded { run: self.job.run, idle });
        }
        if self.failure.is_some() {
            // The runner has said why; what it does after that is of no use to anybody.
            self.close();
        }
        Ok(end)
    }

    /// Adds what one frame means to `into`; says whether it ended a turn.
    fn frame(&mut self, frame: &Output, into: &mut RunStep) -> bool {
        // NanoClaw's runner reports neither. Of ours, a file that is gone may be meant for the next
        // turn, which has begun while this frame was on its way.
        let is_foreign = frame.consumed.is_none() && frame.turn_end.is_none();
        let gone = if is_foreign { self.gone() } else { Vec::new() };
        let had_spoken = self.progress.has_spoken();
        let Step { settle, turn_ended, failed } = self.progress.frame(frame, &gone);
        if let Some(session) = &frame.new_session_id
            && self.session.as_ref() != Some(session)
            && is_session_id(session)
        {
            self.session = Some(session.clone());
            if self.keeps_session() {
                into.session_id = Some(Some(session.clone()));
            }
        }
        if failed.is_none()
            && let Some(text) = frame
                .result
                .as_deref()
                .and_then(|text| self.shared.settings.words_for(&self.asked.chat, text, None))
        {
            into.answers.push(self.outbox(text));
        }
        if self.asked.task.is_some() && turn_ended && failed.is_none() {
            self.is_task_done = true;
            into.task = Some(task::done(&self.task_said, frame.skipped == Some(true)));
        }
        if let Some((kind, error)) = failed {
            log::warn!("run={} group={} turn failed kind={kind:?}", self.id, self.job.group);
            if matches!(kind, ErrorKind::SessionUnknown | ErrorKind::Overflow) {
                self.session = None;
                if self.keeps_session() {
                    into.session_id = Some(None);
                }
            }
            if had_spoken {
                into.answers.push(notice::cut_off(&self.asked.chat, &error));
            }
            self.failure.get_or_insert((kind, error));
        }
        if let Some(seq) = settle {
            into.settle = Some((self.asked.chat.clone(), seq));
        }
        if turn_ended {
            self.turn_count += 1;
            into.turns += 1;
            self.turn_since = (!self.progress.is_idle()).then(Instant::now);
        }
        if let Some(usage) = frame.usage {
            let mut usage = Usage::from(usage);
            if self.token.is_some() {
                // The tokens are the proxy's to count: a hostile agent can say what it likes.
                usage = Usage { cost_micro_usd: usage.cost_micro_usd, ..Usage::default() };
            }
            into.usage += usage;
        }
        turn_ended
    }

    /// Whether the group is to continue this conversation.
    fn keeps_session(&self) -> bool {
        self.asked.task.as_ref().is_none_or(Doing::keeps_session)
    }

    fn outbox(&mut self, text: String) -> NewOutbox {
        self.text_count += 1;
        let kind = if self.asked.task.is_some() {
            task::note(&mut self.task_said, &text);
            OutboxKind::Task
        } else {
            OutboxKind::Answer
        };
        NewOutbox {
            jid: self.asked.chat.clone(),
            kind,
            text,
            dedupe_key: format!("run:{}:{}", self.id, self.text_count),
        }
    }

    /// Follow-ups that are not in the sandbox's input any more.
    fn gone(&self) -> Vec<String> {
        self.progress
            .untaken()
            .filter(|file| matches!(self.input.kind(file), Err(Rejected::NotFound { .. })))
            .map(str::to_owned)
            .collect()
    }

    fn say(&self, event: Event) {
        say(self.words, event);
    }

    /// Whether the engine, which could not run the sandbox, does not answer at all.
    fn is_engine_gone(&self) -> bool {
        self.job.engine.list_owned(&self.shared.home.label()).is_err()
    }

    /// Takes back what was not answered, judges, and writes the last row. `None`: a task is to be
    /// asked again, as its old conversation was lost before it began.
    pub(super) fn end(mut self, end: End) -> Result<Option<(Outcome, bool)>, Error> {
        let used = prepare::revoke(self.shared, self.token.take().as_ref());
        prepare::clear_input(&self.input);
        let is_task = self.asked.kind() == RunKind::Task;
        let failure = self.failure.take();
        let is_session_lost = failure.as_ref().is_some_and(|(kind, _)| {
            matches!(kind, ErrorKind::SessionUnknown | ErrorKind::Overflow)
        });
        let was_new = self.asked.session.is_none() || 0 < self.text_count;
        let is_again = is_task && is_session_lost && !was_new;
        let standing = Standing {
            kind: self.asked.kind(),
            is_owing: if is_task { !self.is_task_done } else { self.progress.is_owing() },
            was_asked_to_end: self.close_by.is_some(),
            progress: self.progress.has_settled(),
            failure,
        };
        let (state, outcome) = standing.judge(end, || self.is_engine_gone());
        let rest = Usage::from(used.since(self.counted));
        if rest != Usage::default() {
            // What was asked of the model after the last turn's end, or in a turn that has none.
            let step = RunStep { usage: rest, ..no_step(RunState::Busy) };
            self.shared.store.lock().record(self.id, &step, UnixMs::now())?;
        }
        self.close_rows(state, &outcome, is_again)?;
        // Of a task, a notice may be to be sent.
        let news =
            if is_task { &[News::Run, News::TaskRun, News::Answer][..] } else { &[News::Run] };
        Doorbell::tell(&self.shared.home, news);
        let pending = match &self.job.work {
            Work::Chat(chat) => {
                let store = self.shared.store.lock();
                match store.cursor(chat)? {
                    Some(cursor) => store.has_waking_after(chat, cursor)?,
                    None => false,
                }
            }
            Work::Task(_) => false,
        };
        log::info!(
            "run={} group={} state={} turns={} pending={pending}",
            self.id,
            self.job.group,
            state.as_str(),
            self.turn_count
        );
        Ok((!is_again).then_some((outcome, pending)))
    }

    /// The last row of the run, and of the task that it did.
    fn close_rows(
        &mut self,
        state: RunState,
        outcome: &Outcome,
        is_again: bool,
    ) -> Result<(), Error> {
        let now = UnixMs::now();
        let error = match outcome {
            Outcome::Failed { error, .. } => Some(error.as_str()),
            _ => None,
        };
        let Some(doing) = &self.asked.task else {
            self.shared.store.lock().end_run(self.id, state, error, now)?;
            return Ok(());
        };
        if is_again || matches!(outcome, Outcome::EngineDown(_)) {
            self.shared.store.durably(|store| store.return_task_run(self.id, state, error, now))?;
            return Ok(());
        }
        let end = Doing::ended(state, &self.task_said, error);
        let notice = doing.notice(&end, now, self.shared.settings.timezone);
        self.shared
            .store
            .durably(|store| store.end_task_run(self.id, state, &end, notice.as_ref(), now))?;
        Ok(())
    }
}

/// Events that one transaction takes in at most.
const BATCH_MAX: usize = 255;

/// A session's name goes into argument lists and file names: no more than that.
fn is_session_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A step in which nothing happened.
fn no_step(state: RunState) -> RunStep {
    RunStep {
        state,
        session_id: None,
        answers: Vec::new(),
        settle: None,
        turns: 0,
        usage: Usage::default(),
        task: None,
    }
}
