//! How many sandboxes may live: each has a place from before its start until it is gone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, select_biased};

use super::Control;

/// All places.
pub struct Places {
    /// One word in the channel for each place that is taken.
    taken: Sender<()>,
    left: Receiver<()>,
    lacking: AtomicUsize,
}

/// One that is taken, until it is freed or dropped.
pub(super) struct Place {
    left: Receiver<()>,
    is_free: AtomicBool,
}

impl Places {
    /// `count` free ones.
    pub fn new(count: usize) -> Places {
        let (taken, left) = bounded(count);
        Places { taken, left, lacking: AtomicUsize::new(0) }
    }

    /// Waits for a place. `None`: the run is to end, by a word from `control` or its hang-up; words
    /// that ask it to look for messages go to `feed`.
    pub(super) fn take(&self, control: &Receiver<Control>, feed: impl Fn()) -> Option<Place> {
        loop {
            select_biased! {
                recv(control) -> word => match word {
                    Ok(Control::Feed) => feed(),
                    Ok(Control::Close | Control::Kill) | Err(_) => return None,
                },
                send(self.taken, ()) -> sent => {
                    sent.expect("we have the other end too");
                    return Some(Place { left: self.left.clone(), is_free: AtomicBool::new(false) });
                }
            }
        }
    }

    /// How many more the queue would have: it says so after each of its steps.
    pub fn set_lacking(&self, count: usize) {
        self.lacking.store(count, Ordering::Relaxed);
    }

    /// Whether a sandbox that has nothing to do is in somebody's way. True for as many as are.
    pub(super) fn is_one_lacking(&self) -> bool {
        let less = |lacking: usize| lacking.checked_sub(1);
        self.lacking.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Place {
    /// Nothing is left of the sandbox. Whoever sees it first says so; the rest does nothing.
    pub(super) fn free(&self) {
        if !self.is_free.swap(true, Ordering::Relaxed) {
            self.left.try_recv().expect("it was taken");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped_and_who_waits_can_be_called_away() {
        let places = Places::new(1);
        let (say, control) = bounded(2);
        let place = places.take(&control, || ()).expect("it is free");
        say.send(Control::Feed).expect("there is room");
        say.send(Control::Close).expect("there is room");
        let fed = std::cell::Cell::new(0);
        assert!(places.take(&control, || fed.set(fed.get() + 1)).is_none());
        assert_eq!(1, fed.get());
        place.free();
        let again = places.take(&control, || ()).expect("it is free");
        drop(place);
        assert_eq!(1, places.left.len(), "it was freed once");
        drop(again);
        drop(say);
        assert!(places.take(&control, || ()).is_none(), "nobody wants it any more");
    }

    #[test]
    fn no_more_leave_than_are_in_the_way() {
        let places = Places::new(3);
        assert!(!places.is_one_lacking());
        places.set_lacking(2);
        assert_eq!([true, true, false], [(); 3].map(|()| places.is_one_lacking()));
    }
}
