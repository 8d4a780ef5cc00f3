//! What the groups are called. Asked for at each start and once a day, when somebody wants to know
//! at once, and when a group is heard of that has no name yet; between these the server tells of new
//! names by itself. Who is in a group the library keeps, and asks for when it sends there.

use std::sync::Arc;

use wacore::stanza::groups::GroupNotificationAction;
use wacore::types::events::GroupUpdate;
use whatsapp_rust::Client;

use crate::ids::{ChatJid, UnixMs};
use crate::limits::{
    GROUP_NAME_CHARS_MAX, GROUPS_MAX, GROUPS_SYNC_INTERVAL, GROUPS_SYNC_PAUSE, GROUPS_SYNC_RETRY,
};
use crate::store::{self, Store};

/// When the names were last told.
pub(crate) const SYNCED_AT_KEY: &str = "groups_synced_at_ms";
/// When somebody last wanted to know at once.
pub(crate) const ASKED_AT_KEY: &str = "groups_refresh_asked_at_ms";

/// Groups and what they are called.
pub(super) type Names = Vec<(ChatJid, String)>;

/// When to ask.
#[derive(Debug, Default)]
pub(super) struct Sync {
    /// The last time that the server was asked in this life of the program.
    tried_at: Option<UnixMs>,
    is_underway: bool,
    /// Somebody may have wanted to know too early; nobody rings a second time.
    is_put_off: bool,
}

impl Sync {
    /// Whether to ask now; then [`Sync::done`] is to follow.
    ///
    /// # Errors
    /// The database.
    pub(super) fn is_due(&mut self, store: &Store, now: UnixMs) -> store::Result<bool> {
        let at = |key: &str| -> store::Result<Option<UnixMs>> {
            Ok(store.get_state(key)?.and_then(|text| text.parse().ok()).map(UnixMs))
        };
        let Some(tried_at) = self.tried_at.filter(|at| *at <= now) else {
            // The first time; or the clock went back, and no time says anything any more.
            return Ok(self.begin(now));
        };
        self.is_put_off = self.is_underway || now < tried_at.plus(GROUPS_SYNC_PAUSE);
        if self.is_put_off {
            return Ok(false);
        }
        let synced_at = at(SYNCED_AT_KEY)?.filter(|at| *at <= now);
        let is_old = synced_at.is_none_or(|at| at.plus(GROUPS_SYNC_INTERVAL) <= now);
        let is_due = (is_old && tried_at.plus(GROUPS_SYNC_RETRY) <= now)
            || at(ASKED_AT_KEY)?.is_some_and(|asked_at| tried_at < asked_at)
            || store.has_nameless_group_since(tried_at)?;
        Ok(is_due && self.begin(now))
    }

    /// Whether it is time to ask again what was asked too early.
    pub(super) fn is_put_off_until_now(&self, now: UnixMs) -> bool {
        let is_early = self.tried_at.is_some_and(|at| now < at.plus(GROUPS_SYNC_PAUSE));
        self.is_put_off && !self.is_underway && !is_early
    }

    fn begin(&mut self, now: UnixMs) -> bool {
        self.tried_at = Some(now);
        self.is_underway = true;
        true
    }

    /// Takes what came of it.
    ///
    /// # Errors
    /// The database.
    pub(super) fn done(
        &mut self,
        store: &mut Store,
        told: Result<Names, String>,
    ) -> store::Result<()> {
        self.is_underway = false;
        match told {
            Ok(names) => {
                log::info!("whatsapp groups={}", names.len());
                store.name_groups(&names)?;
                let at = self.tried_at.unwrap_or_default();
                store.set_state(SYNCED_AT_KEY, &at.to_string())
            }
            Err(error) => {
                log::warn!("the names of the groups are not to be had now: {error}");
                Ok(())
            }
        }
    }

    /// The connection is over, and with it the question.
    pub(super) fn interrupt(&mut self) {
        self.is_underway = false;
    }
}

/// Asks the server.
///
/// # Errors
/// No answer, or none of use; on one line.
pub(super) async fn ask(client: Arc<Client>) -> Result<Names, String> {
    let all = client.groups().get_participating().await.map_err(|error| crate::chain(&error))?;
    let groups = all.into_values().take(GROUPS_MAX).filter_map(|group| {
        Some((ChatJid::new(&group.id.to_non_ad_string()).ok()?, name(&group.subject)?))
    });
    let mut names: Names = groups.collect();
    names.sort();
    Ok(names)
}

/// The new name that the server tells of, if it does.
pub(super) fn renamed(update: &GroupUpdate) -> Option<(ChatJid, String)> {
    let GroupNotificationAction::Subject { subject, .. } = &update.action else { return None };
    Some((ChatJid::new(&update.group_jid.to_non_ad_string()).ok()?, name(subject)?))
}

/// A name on one line and of a sensible length: members choose it.
fn name(subject: &str) -> Option<String> {
    let words: Vec<&str> = subject
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let name: String = words.join(" ").chars().take(GROUP_NAME_CHARS_MAX).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&folder.path().join("messages.db")).expect("opens");
        (folder, store)
    }

    #[test]
    fn names_are_asked_for_at_start_every_day_and_on_demand() {
        let (_folder, mut store) = store();
        let (mut sync, start) = (Sync::default(), UnixMs(1_000_000_000));
        let due = |sync: &mut Sync, store: &Store, after: Duration| {
            sync.is_due(store, start.plus(after)).expect("read")
        };
        let family = ChatJid::new("1@g.us").expect("valid");
        assert!(due(&mut sync, &store, Duration::ZERO));
        assert!(!due(&mut sync, &store, GROUPS_SYNC_INTERVAL), "it is underway");
        sync.done(&mut store, Ok(vec![(family.clone(), "Family".to_owned())])).expect("stored");
        assert!(!due(
            &mut sync,
            &store,
            GROUPS_SYNC_INTERVAL.saturating_sub(Duration::from_millis(1))
        ));

        let asked_at = start.plus(GROUPS_SYNC_PAUSE);
        store.set_state(ASKED_AT_KEY, &asked_at.to_string()).expect("set");
        assert!(!due(
            &mut sync,
            &store,
            GROUPS_SYNC_PAUSE.saturating_sub(Duration::from_millis(1))
        ));
        let is_again_due = |after| sync.is_put_off_until_now(start.plus(after));
        assert!(is_again_due(GROUPS_SYNC_PAUSE) && !is_again_due(Duration::ZERO), "nobody rings");
        assert!(due(&mut sync, &store, GROUPS_SYNC_PAUSE));
        sync.done(&mut store, Err("no answer".to_owned())).expect("noted");
        assert!(!due(&mut sync, &store, 2 * GROUPS_SYNC_PAUSE), "once for each demand");
        assert!(!sync.is_put_off_until_now(start.plus(2 * GROUPS_SYNC_PAUSE)), "nothing is owed");
        assert!(due(&mut sync, &store, GROUPS_SYNC_INTERVAL));
        sync.interrupt();
        assert!(!due(&mut sync, &store, GROUPS_SYNC_INTERVAL + GROUPS_SYNC_PAUSE));
        assert!(due(&mut sync, &store, GROUPS_SYNC_INTERVAL + GROUPS_SYNC_RETRY));
        let names: Vec<_> = store
            .all_chats()
            .expect("read")
            .into_iter()
            .map(|chat| (chat.jid, chat.name))
            .collect();
        assert_eq!(vec![(family, Some("Family".to_owned()))], names);
    }

    #[test]
    fn a_group_without_a_name_is_asked_for_once() {
        let (_folder, mut store) = store();
        let (mut sync, start) = (Sync::default(), UnixMs(1_000_000_000));
        assert!(sync.is_due(&store, start).expect("read"));
        sync.done(&mut store, Ok(Vec::new())).expect("stored");
        let later = start.plus(2 * GROUPS_SYNC_PAUSE);
        let (group, person) = ("1@g.us", "1@s.whatsapp.net");
        store
            .upsert_chat(&ChatJid::new(person).expect("valid"), None, false, later)
            .expect("noted");
        assert!(!sync.is_due(&store, later).expect("read"));
        store.upsert_chat(&ChatJid::new(group).expect("valid"), None, true, later).expect("noted");
        assert!(sync.is_due(&store, later).expect("read"));
        sync.done(&mut store, Ok(Vec::new())).expect("stored");
        assert!(!sync.is_due(&store, later.plus(GROUPS_SYNC_PAUSE)).expect("read"));
    }

    #[test]
    fn a_clock_that_went_back_does_not_keep_it_from_asking() {
        let (_folder, mut store) = store();
        let mut sync = Sync::default();
        assert!(sync.is_due(&store, UnixMs(i64::MAX / 2)).expect("read"));
        sync.done(&mut store, Ok(Vec::new())).expect("stored");
        assert!(sync.is_due(&store, UnixMs(1_000_000_000)).expect("read"));
    }

    #[test]
    fn names_are_bounded_and_on_one_line() {
        assert_eq!(Some("Fa mily 🏠".to_owned()), name(" Fa\nmily\t\u{1b} 🏠 "));
        assert_eq!(None, name(" \n"));
        let long = name(&"é".repeat(1000)).expect("a name");
        assert_eq!(GROUP_NAME_CHARS_MAX, long.chars().count());
    }
}
