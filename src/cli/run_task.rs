//! `run-task` and `run-due`: tasks run now, through whatever daemon serves the home folder, or one
//! of our own for as long as they take. For people, and for the system's own cron.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use argh::{ArgsInfo, FromArgs};

use super::serve::{self, Server};
use super::{Error, out};
use crate::config::Settings;
use crate::daemon::Duty;
use crate::doorbell::Doorbell;
use crate::home::{Home, Purpose};
use crate::ids::{OutboxId, TaskRunId, UnixMs};
use crate::limits::TASK_CLAIMS_MAX;
use crate::schedule::{claim_due, duration};
use crate::store::{AskedBy, OutboxKind, Store, TaskRun, TaskRunStatus};

/// Run a task now and print its result; its schedule stays. Exit code: 0 success, 1 failed, 2
/// skipped by its script, 75 it runs already, or nothing can run it now.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "run-task")]
pub(super) struct RunTaskCommand {
    /// seconds to wait for its end (default: 3600)
    #[argh(option, arg_name = "s", default = "3600")]
    timeout: u64,
    /// the task, or a unique beginning of its id
    #[argh(positional)]
    id: String,
}

impl RunTaskCommand {
    /// # Errors
    /// No such task, and what keeps it from running.
    pub(super) fn run(self, home: &Home) -> Result<ExitCode, Error> {
        // A wrong id is told before anything is started.
        let task = super::store(home)?.task(&self.id, None)?;
        let mut wait = Wait::begin(home, self.timeout)?;
        let done = wait.run_task(&task.id);
        let closed = wait.server.close();
        let code = done?;
        closed?;
        Ok(code)
    }
}

/// Run all tasks that are due and exit: for a machine without the daemon. Exit code: 0 all went
/// well, 1 one failed, 75 nothing can run them now.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "run-due")]
pub(super) struct RunDueCommand {
    /// seconds to wait for their end (default: 3600)
    #[argh(option, arg_name = "s", default = "3600")]
    timeout: u64,
}

impl RunDueCommand {
    /// # Errors
    /// What keeps them from running.
    pub(super) fn run(self, home: &Home) -> Result<ExitCode, Error> {
        let store = super::store(home)?;
        let is_due = store.next_due_at()?.is_some_and(|due| due <= UnixMs::now());
        if !is_due && store.waiting_task_runs(TaskRunId(0), 1)?.is_empty() {
            out::say("nothing is due");
            return Ok(ExitCode::SUCCESS);
        }
        let mut wait = Wait::begin(home, self.timeout)?;
        let done = wait.run_due();
        let closed = wait.server.close();
        let code = done?;
        closed?;
        Ok(code)
    }
}

/// Waits for runs of tasks.
struct Wait<'a> {
    home: &'a Home,
    settings: Settings,
    store: Store,
    bell: Doorbell,
    server: Server,
    deadline: Instant,
    /// Why what had not begun was taken back.
    gave_up: Option<String>,
}

impl Wait<'_> {
    fn begin(home: &Home, timeout_s: u64) -> Result<Wait<'_>, Error> {
        let settings = super::settings(home)?;
        let store = super::store_with_main(home)?;
        let bell = Doorbell::new(home)?;
        let server = Server::find(home, &settings, Purpose::Task, Duty::ClaimedTasks)?;
        let deadline = Instant::now() + Duration::from_secs(timeout_s.min(TIMEOUT_MAX_S));
        Ok(Wait { home, settings, store, bell, server, deadline, gave_up: None })
    }

    fn run_task(&mut self, id: &crate::ids::TaskId) -> Result<ExitCode, Error> {
        let said_before = self.store.newest_outbox_id()?;
        let claim = self.store.claim_now(id, UnixMs::now())?;
        crate::crash_point("task_claimed");
        self.bell.ring_others();
        let ended = self.until_ended(claim.id)?;
        self.print(&ended, said_before)?;
        let error = || out::harmless(ended.error.as_deref().unwrap_or("no reason given"));
        Ok(ExitCode::from(match ended.status {
            TaskRunStatus::Succeeded => 0,
            TaskRunStatus::Skipped => {
                out::say("skipped: the task's script saw nothing to do");
                2
            }
            TaskRunStatus::Withdrawn => match self.gave_up.take() {
                Some(why) => return Err(Error::TryAgain(why)),
                None => return Err(Error::Refused(format!("withdrawn: {}", error()))),
            },
            _ => {
                out::complain(&format!("the task {}: {}", ended.status.as_str(), error()));
                1
            }
        }))
    }

    fn run_due(&mut self) -> Result<ExitCode, Error> {
        let zone = self.settings.timezone;
        self.give_back_left_over()?;
        let claims = claim_due(&mut self.store, &self.bell, zone, UnixMs::now())?;
        self.bell.ring_others();
        let mut has_failed = false;
        for claim in claims {
            let ended = self.until_ended(claim.id)?;
            has_failed |=
                matches!(ended.status, TaskRunStatus::Failed | TaskRunStatus::Interrupted);
            let error = ended.error.map(|error| format!(": {error}")).unwrap_or_default();
            let line = format!("{} {}{error}", claim.task, ended.status.as_str());
            out::line(&out::harmless(&line).replace('\n', " "))?;
        }
        match self.gave_up.take() {
            Some(why) => Err(Error::TryAgain(why)),
            None => Ok(ExitCode::from(u8::from(has_failed))),
        }
    }

    /// What an earlier `run-due` has claimed and was killed before it began is due again. Where a
    /// daemon serves the home, that has taken it up.
    fn give_back_left_over(&mut self) -> Result<(), Error> {
        if !self.server.is_own() {
            return Ok(());
        }
        for claim in self.store.waiting_task_runs(TaskRunId(0), TASK_CLAIMS_MAX)? {
            let run = self.store.task_run(claim.id)?;
            if run.is_some_and(|run| run.asked_by == AskedBy::Schedule) {
                self.store.withdraw_task_run(claim.id, "its claim was left over", UnixMs::now())?;
            }
        }
        Ok(())
    }

    /// Waits until the run has ended; takes it back where nobody is there to begin it.
    fn until_ended(&mut self, id: TaskRunId) -> Result<TaskRun, Error> {
        loop {
            let run = self.store.task_run(id)?;
            let run = run.ok_or_else(|| Error::Refused(format!("task run {id} is gone")))?;
            if run.status != TaskRunStatus::Running {
                return Ok(run);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if let Some(why) = self.obstacle(left)? {
                if self.store.withdraw_task_run(id, &why, UnixMs::now())? {
                    self.gave_up = Some(why);
                    continue;
                }
                if left.is_zero() {
                    return Err(Error::TryAgain(self.late().to_owned()));
                }
            }
            if let Err(interrupted) = self.server.check_signals() {
                // What has begun ends with us, where we serve.
                self.store.withdraw_task_run(id, "interrupted", UnixMs::now())?;
                return Err(interrupted);
            }
            self.bell.wait(left.min(LOOK_INTERVAL).max(LOOK_INTERVAL_MIN));
        }
    }

    /// What becomes of a run that has begun and takes too long.
    fn late(&self) -> &'static str {
        if self.server.is_own() {
            "the task is not done in time and is stopped; it is not repeated by itself: give it \
             longer with `--timeout`, or leave it to `rust-claw run`"
        } else {
            "the task is not done in time; its result will be in its chat"
        }
    }

    /// Why a run that has not begun will not begin soon.
    fn obstacle(&self, left: Duration) -> Result<Option<String>, Error> {
        if let Some((why, mend)) = serve::engine_down(&self.store)? {
            return Ok(Some(format!("no sandbox to run in: {why}; {mend}")));
        }
        if !self.server.is_own() && self.home.holder()?.is_none() {
            return Ok(Some("the daemon that was to run it has ended".to_owned()));
        }
        Ok(left.is_zero().then(|| "no sandbox was free in time".to_owned()))
    }

    fn print(&self, ended: &TaskRun, after: OutboxId) -> Result<(), Error> {
        let Some(run) = ended.run else { return Ok(()) };
        for row in self.store.outbox_of_run(run, after)? {
            if row.kind == OutboxKind::Task {
                out::line(&out::harmless(&row.text))?;
            }
        }
        Ok(())
    }
}

const TIMEOUT_MAX_S: u64 = duration::INTERVAL_MAX.as_secs();
/// A look at the database where no bell rang.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(10);
