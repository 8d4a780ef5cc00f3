//! A line in which everybody stands once and from whose middle one can leave.

use std::collections::BTreeMap;

/// First in, first out, without duplicates; every operation is O(log n).
#[derive(Clone, Debug)]
pub(super) struct Line<T> {
    order: BTreeMap<u64, T>,
    places: BTreeMap<T, u64>,
    next_place: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Line<T> {
        Line { order: BTreeMap::new(), places: BTreeMap::new(), next_place: 0 }
    }
}

impl<T: Clone + Ord> Line<T> {
    /// Goes to the end; who stands in line already keeps the place.
    pub(super) fn join(&mut self, item: T) {
        if self.places.contains_key(&item) {
            return;
        }
        self.order.insert(self.next_place, item.clone());
        self.places.insert(item, self.next_place);
        self.next_place += 1;
    }

    /// Leaves, from wherever the place was.
    pub(super) fn leave(&mut self, item: &T) {
        if let Some(place) = self.places.remove(item) {
            self.order.remove(&place);
        }
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (_, item) = self.order.pop_first()?;
        self.places.remove(&item);
        Some(item)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// From the first to the last.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.order.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins_twice_keeps_the_place_and_who_leaves_loses_it() {
        let mut line = Line::default();
        for item in ["a", "b", "a", "c"] {
            line.join(item);
        }
        line.leave(&"b");
        line.leave(&"nobody");
        assert_eq!(vec![&"a", &"c"], line.iter().collect::<Vec<_>>());
        line.join("b");
        assert_eq!(3, line.len());
        assert_eq!([Some("a"), Some("c"), Some("b"), None], [(); 4].map(|()| line.pop()));
        assert!(line.is_empty() && line.places.is_empty());
    }
}
