//! The thread that sees new messages: woken by the doorbell (and every two seconds, should a ring
//! have been lost), it reads what arrived since it last looked and tells the dispatcher which
//! chats ask for an answer. It decides nothing; whether a message asks was settled on arrival.

use std::collections::BTreeSet;

use crossbeam_channel::Sender;

use crate::dispatcher::Word;
use crate::doorbell::Doorbell;
use crate::ids::{ChatJid, GroupFolder, Seq};
use crate::limits::POLL_INTERVAL;
use crate::queue::Event;
use crate::store::{Error, Signal, Store};

/// Rows that one look reads; what is left is read by the next, at once.
const LOOK_MAX: usize = 1000;

/// Looks until the dispatcher is gone or `stopped` says so.
///
/// # Errors
/// A database that cannot be read.
pub fn run(
    store: &Store,
    bell: &Doorbell,
    words: &Sender<Word>,
    stopped: impl Fn() -> bool,
) -> Result<(), Error> {
    // Newest first, then what is pending: a message that comes between the two is seen twice,
    // which does no harm, and never not at all.
    let mut poller = Poller {
        store,
        words,
        seen: store.newest_seq()?,
        groups: folders(store)?,
        removed_count: store.signal_count(Signal::GroupRemoved)?,
        retry_count: store.signal_count(Signal::RetryNow)?,
        version: store.data_version()?,
    };
    for (group, chat) in store.pending_chats()? {
        if poller.tell(Event::MessagesPending { group, chat }).is_err() {
            return Ok(());
        }
    }
    while !stopped() {
        match poller.look()? {
            Ok(true) => {}
            Ok(false) => while !bell.wait(POLL_INTERVAL) && !stopped() && !poller.has_changed()? {},
            Err(NobodyListens) => return Ok(()),
        }
    }
    Ok(())
}

/// The dispatcher is gone.
struct NobodyListens;

/// What was seen.
struct Poller<'a> {
    store: &'a Store,
    words: &'a Sender<Word>,
    /// The newest message.
    seen: Seq,
    /// The groups, to know which is gone.
    groups: BTreeSet<GroupFolder>,
    /// How often each signal was given.
    removed_count: i64,
    retry_count: i64,
    /// Of the database, at the last look that nobody asked for.
    version: i64,
}

impl Poller<'_> {
    /// Whether anything was committed since the last question: cheaper than a look.
    fn has_changed(&mut self) -> Result<bool, Error> {
        let version = self.store.data_version()?;
        Ok(version != std::mem::replace(&mut self.version, version))
    }

    /// One look. Says whether there is more to read.
    fn look(&mut self) -> Result<Result<bool, NobodyListens>, Error> {
        let (woken, scanned) = self.store.woken_since(self.seen, LOOK_MAX)?;
        // All that were read count, not those that wake. Where numbers are missing, one look more.
        let is_full = LOOK_MAX <= usize::try_from(scanned.0 - self.seen.0).unwrap_or(0);
        self.seen = scanned;
        let mut events = Vec::new();
        let mut last: Option<&ChatJid> = None;
        for (_, group, chat) in &woken {
            // A burst in one chat is one event.
            if last != Some(chat) {
                events.push(Event::MessagesPending { group: group.clone(), chat: chat.clone() });
                last = Some(chat);
            }
        }
        let removed_count = self.store.signal_count(Signal::GroupRemoved)?;
        if self.removed_count != removed_count {
            self.removed_count = removed_count;
            let now = folders(self.store)?;
            let gone = self.groups.difference(&now).cloned();
            events.extend(gone.map(|group| Event::GroupRemoved { group }));
            self.groups = now;
        }
        let retry_count = self.store.signal_count(Signal::RetryNow)?;
        if self.retry_count != retry_count {
            self.retry_count = retry_count;
            events.push(Event::RetryNow { group: None });
        }
        for event in events {
            if self.tell(event).is_err() {
                return Ok(Err(NobodyListens));
            }
        }
        Ok(Ok(is_full))
    }

    fn tell(&mut self, event: Event) -> Result<(), NobodyListens> {
        if let Event::MessagesPending { group, .. } = &event {
            // Registered since we started.
            self.groups.insert(group.clone());
        }
        self.words.send(event.into()).map_err(|_| NobodyListens)
    }
}

fn folders(store: &Store) -> Result<BTreeSet<GroupFolder>, Error> {
    let (groups, _unreadable) = store.groups()?;
    Ok(groups.into_iter().map(|group| group.folder).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::ids::UnixMs;
    use crate::store::{ContainerConfig, NewGroup, NewMessage};

    /// A group that is woken by its name, with this chat.
    fn family(jid: ChatJid) -> NewGroup {
        NewGroup {
            jid,
            name: "Family".to_owned(),
            folder: GroupFolder::new("family").expect("a good name"),
            trigger_name: None,
            requires_trigger: true,
            is_main: false,
            attach: false,
            config: ContainerConfig::default(),
        }
    }

    fn poller<'a>(store: &'a Store, words: &'a Sender<Word>) -> Poller<'a> {
        let groups = folders(store).expect("readable");
        let (seen, version) = (Seq(0), 0);
        Poller { store, words, seen, groups, removed_count: 0, retry_count: 0, version }
    }

    #[test]
    fn what_wakes_nobody_does_not_end_the_reading() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path());
        home.create().expect("an empty folder can be a home");
        let mut store = Store::open(&home.database()).expect("a new database");
        store.ensure_main_group(UnixMs(1)).expect("an empty database");
        let message = |number: usize, chat: ChatJid| NewMessage {
            chat,
            id: number.to_string(),
            sender: "ann".to_owned(),
            sender_alt: None,
            sender_name: "Ann".to_owned(),
            text: "hello".to_owned(),
            sent_at: UnixMs(1),
            is_from_assistant: false,
            mentions_assistant: false,
            chat_name: None,
            is_group: false,
            history: false,
        };
        let quiet = ChatJid::new("script:family").expect("an address");
        store.register_group(&family(quiet.clone()), UnixMs(1)).expect("nothing is taken");
        let count = 2 * LOOK_MAX + 10;
        let mut all: Vec<NewMessage> =
            (0..count).map(|number| message(number, quiet.clone())).collect();
        all.push(message(count, ChatJid::local(&GroupFolder::main())));
        store.accept(&all, "Andy", UnixMs(1)).expect("no fault");
        let (words, heard) = crossbeam_channel::unbounded();
        let mut poller = poller(&store, &words);
        let looks = std::iter::from_fn(|| poller.look().ok()?.ok());
        assert_eq!(3, looks.take_while(|more| *more).count() + 1, "the last is not full");
        let told: Vec<Word> = heard.try_iter().collect();
        assert!(matches!(&told[..], [Word::Event(Event::MessagesPending { .. })]));
    }

    #[test]
    fn a_removed_group_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path());
        home.create().expect("an empty folder can be a home");
        let open = || Store::open(&home.database()).expect("a new database");
        let (store, mut other) = (open(), open());
        let group = GroupFolder::new("family").expect("a good name");
        other.register_group(&family(ChatJid::local(&group)), UnixMs(1)).expect("nothing is taken");
        let (words, heard) = crossbeam_channel::unbounded();
        let mut poller = poller(&store, &words);
        assert!(matches!(poller.look(), Ok(Ok(false))));
        assert!(heard.is_empty(), "nothing happened yet");
        other.unregister_group(&group, UnixMs::now()).expect("it is there");
        assert!(matches!(poller.look(), Ok(Ok(false))));
        let told: Vec<Word> = heard.try_iter().collect();
        assert!(
            matches!(&told[..], [Word::Event(Event::GroupRemoved { group: gone })] if *gone == group)
        );
        assert!(matches!(poller.look(), Ok(Ok(false))));
        assert!(heard.is_empty(), "told once");
    }
}
