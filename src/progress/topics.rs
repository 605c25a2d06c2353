//! The topics of a run, and lanes. A lane is the number of a partition among all of them. Pure.
//!
//! A lane is the place of the topic times 2^20, plus the number of the partition. So the lanes of a run with one topic
//! are its partitions. Places do not change in a lineage. A new topic gets the place after the others, and a topic that
//! is no longer read keeps its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number of bits of a lane that hold the partition's number.
const PARTITION_BITS: u32 = 20;
/// The greatest number of topics.
pub const TOPICS_MAX: usize = 1 << (i32::BITS - 1 - PARTITION_BITS);

/// The topics of a run, each with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    names: Arc<[String]>,
    /// The places of topics that are no longer read. Their offsets are kept.
    unread: Arc<BTreeSet<usize>>,
}

impl Topics {
    /// Creates the list of these topics, which are all read. Repeated names are left out.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for name in names {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        Self { names: all.into(), unread: Arc::default() }
    }

    /// Returns these topics at the same places, and after them the new ones of `read`. Only those in `read` are read.
    #[must_use]
    pub fn reading(&self, read: &[String]) -> Self {
        let all = Self::new(self.names.iter().chain(read).cloned());
        let unread = all.names.iter().enumerate().filter(|(_, name)| !read.contains(name)).map(|(place, _)| place);
        Self { unread: Arc::new(unread.collect()), ..all }
    }

    /// Returns all names in the order of their places.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the topics that are read, with their places.
    pub fn read(&self) -> impl Iterator<Item = (usize, &str)> {
        let places = self.names.iter().map(String::as_str).enumerate();
        places.filter(|(place, _)| !self.unread.contains(place))
    }

    /// Returns the topics that are no longer read.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        self.unread.iter().filter_map(|place| self.names.get(*place)).map(String::as_str)
    }

    /// Whether the topic of a lane is read.
    pub fn is_read(&self, lane: i32) -> bool {
        let place = place_of(lane);
        place < self.names.len() && !self.unread.contains(&place)
    }

    /// Returns the values of those lanes whose topics are read.
    #[must_use]
    pub fn of_read<T: Clone>(&self, lanes: &BTreeMap<i32, T>) -> BTreeMap<i32, T> {
        let read = lanes.iter().filter(|(lane, _)| self.is_read(**lane));
        read.map(|(lane, value)| (*lane, value.clone())).collect()
    }

    /// Whether `others` reads one of these topics.
    pub fn shares(&self, others: &Self) -> bool {
        others.read().any(|(_, name)| self.place(name).is_some())
    }

    /// Whether there is more than one topic, so that files and records name them.
    pub fn are_several(&self) -> bool {
        self.names.len() > 1
    }

    /// Returns the names of the topics that are read, for people.
    pub fn text(&self) -> String {
        self.read().map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    }

    /// Returns the place of a topic.
    pub fn place(&self, topic: &str) -> Option<usize> {
        self.names.iter().position(|name| name == topic)
    }

    /// Returns the topic of a lane.
    pub fn name(&self, lane: i32) -> &str {
        self.names.get(place_of(lane)).map_or("", String::as_str)
    }

    /// Returns the lane of a topic's partition. `None` where the topic is not among these.
    pub fn lane(&self, topic: &str, partition: i32) -> Option<i32> {
        lane(self.place(topic)?, partition)
    }

    /// Returns `topic partition 3`.
    pub fn place_text(&self, lane: i32) -> String {
        format!("{} partition {}", self.name(lane), partition_of(lane))
    }

    /// Returns the values of lanes by topic and partition.
    pub fn by_topic<T: Clone>(&self, lanes: &BTreeMap<i32, T>) -> BTreeMap<String, BTreeMap<i32, T>> {
        let mut all: BTreeMap<String, BTreeMap<i32, T>> = BTreeMap::new();
        for (lane, value) in lanes {
            all.entry(self.name(*lane).to_owned()).or_default().insert(partition_of(*lane), value.clone());
        }
        all
    }

    /// Returns the values of partitions by lane. Topics that are not among these are left out.
    pub fn by_lane<T>(&self, topics: BTreeMap<String, BTreeMap<i32, T>>) -> BTreeMap<i32, T> {
        let mut all = BTreeMap::new();
        for (topic, partitions) in topics {
            for (partition, value) in partitions {
                if let Some(lane) = self.lane(&topic, partition) {
                    all.insert(lane, value);
                }
            }
        }
        all
    }

    /// Returns the values of another list's lanes by the lanes of this list.
    pub fn of<T: Clone>(&self, other: &Self, lanes: &BTreeMap<i32, T>) -> BTreeMap<i32, T> {
        self.by_lane(other.by_topic(lanes))
    }
}

impl From<&str> for Topics {
    fn from(topic: &str) -> Self {
        Self::new([topic.to_owned()])
    }
}

/// Returns the lane of a partition of the topic at this place. `None` where the number or the place is too great.
pub fn lane(place: usize, partition: i32) -> Option<i32> {
    let place =
        i32::try_from(place).ok().filter(|place| usize::try_from(*place).is_ok_and(|place| place < TOPICS_MAX))?;
    (0..1 << PARTITION_BITS).contains(&partition).then_some(place << PARTITION_BITS | partition)
}

/// Returns the place of a lane's topic.
pub fn place_of(lane: i32) -> usize {
    usize::try_from(lane >> PARTITION_BITS).unwrap_or(0)
}

/// Returns the number of a lane's partition.
pub fn partition_of(lane: i32) -> i32 {
    lane & ((1 << PARTITION_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn lanes_of_the_first_topic_are_its_partitions() {
        let topics = Topics::new(names(&["a", "b", "a"]));
        assert_eq!(topics.names(), names(&["a", "b"]));
        for partition in [0, 1, 7, (1 << PARTITION_BITS) - 1] {
            assert_eq!(topics.lane("a", partition), Some(partition));
            let lane = topics.lane("b", partition).unwrap();
            assert_eq!((topics.name(lane), partition_of(lane), place_of(lane)), ("b", partition, 1));
        }
        assert_eq!(
            (topics.lane("c", 0), topics.lane("a", 1 << PARTITION_BITS), topics.lane("a", -1)),
            (None, None, None)
        );
        let last = lane(TOPICS_MAX - 1, (1 << PARTITION_BITS) - 1).unwrap();
        assert_eq!((last, place_of(last)), (i32::MAX, TOPICS_MAX - 1));
        assert_eq!(lane(TOPICS_MAX, 0), None);
    }

    #[test]
    fn a_topic_keeps_its_place() {
        let before = Topics::new(names(&["a", "b"]));
        let now = before.reading(&names(&["c", "b"]));
        assert_eq!(now.names(), names(&["a", "b", "c"]));
        assert_eq!(now.read().collect::<Vec<_>>(), [(1, "b"), (2, "c")]);
        assert_eq!(now.unread().collect::<Vec<_>>(), ["a"]);
        assert_eq!(now.text(), "b, c");
        assert_eq!(before.reading(&names(&["a", "b"])), before);
    }

    #[test]
    fn by_topic_and_back() {
        let (one, other) = (Topics::new(names(&["a", "b"])), Topics::new(names(&["b", "c"])));
        let lanes = BTreeMap::from([(one.lane("a", 1).unwrap(), 'x'), (one.lane("b", 2).unwrap(), 'y')]);
        let by_topic = one.by_topic(&lanes);
        assert_eq!(by_topic["b"], BTreeMap::from([(2, 'y')]));
        assert_eq!(one.by_lane(by_topic), lanes);
        assert_eq!(other.of(&one, &lanes), BTreeMap::from([(2, 'y')]));
    }
}
