//! A store of items by small stable index, in chunks. Growth never moves an item. A single vector would copy everything
//! at each doubling, which stalls the stream and needs twice the memory.

/// The number of items in a chunk.
const CHUNK: usize = 4_096;

#[derive(Debug)]
enum Slot<T> {
    Used(T),
    /// The next free slot, if any.
    Free(Option<u32>),
}

/// A store of items that reuses the indexes of removed items.
#[derive(Debug)]
pub(super) struct Arena<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: Option<u32>,
    len: usize,
}

impl<T> Arena<T> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: None, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Stores an item. `None`: every index is in use.
    pub(super) fn insert(&mut self, item: T) -> Option<u32> {
        if let Some(index) = self.free {
            let slot = self.slot_mut(index)?;
            if let Slot::Free(next) = std::mem::replace(slot, Slot::Used(item)) {
                self.free = next;
            }
            self.len += 1;
            return Some(index);
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk grows as needed, since most small windows never need a second.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut()?;
        let index = u32::try_from(full + chunk.len()).ok()?;
        chunk.push(Slot::Used(item));
        self.len += 1;
        Some(index)
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let index = usize::try_from(index).ok()?;
        match self.chunks.get(index / CHUNK)?.get(index % CHUNK)? {
            Slot::Used(item) => Some(item),
            Slot::Free(_) => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slot_mut(index)? {
            Slot::Used(item) => Some(item),
            Slot::Free(_) => None,
        }
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let free = self.free;
        let slot = self.slot_mut(index)?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        match std::mem::replace(slot, Slot::Free(free)) {
            Slot::Used(item) => {
                self.free = Some(index);
                self.len -= 1;
                Some(item)
            }
            Slot::Free(_) => None,
        }
    }

    /// The number of places, used or free. Every index is less.
    pub(super) fn places(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        u32::try_from(full + self.chunks.last().map_or(0, Vec::len)).unwrap_or(u32::MAX)
    }

    /// Indexes and items, by index.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().flatten().zip(0_u32..).filter_map(|(slot, index)| match slot {
            Slot::Used(item) => Some((index, item)),
            Slot::Free(_) => None,
        })
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let index = usize::try_from(index).ok()?;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_stable_and_used_again() {
        let mut arena = Arena::new();
        let many = u32::try_from(CHUNK * 2 + 10).unwrap();
        for n in 0..many {
            assert_eq!(arena.insert(n), Some(n));
        }
        for n in (0..many).step_by(3) {
            assert_eq!(arena.remove(n), Some(n));
            assert_eq!(arena.remove(n), None);
            assert_eq!(arena.get(n), None);
        }
        assert_eq!(arena.iter().count(), arena.len());
        let freed = usize::try_from(many.div_ceil(3)).unwrap();
        let again: Vec<u32> = (0..freed).map(|_| arena.insert(u32::MAX).unwrap()).collect();
        assert!(again.iter().all(|index| index % 3 == 0), "freed slots come first");
        assert_eq!(arena.len(), usize::try_from(many).unwrap());
        assert_eq!(arena.insert(7), Some(many));
        assert_eq!(arena.get(1), Some(&1));
    }
}
