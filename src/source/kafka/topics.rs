//! The topics of a source, and the decoding of their records.

use std::collections::BTreeMap;

use rdkafka::message::Message;

use super::decoding::Decoding;
use crate::change::Decode;
use crate::progress::Topics;
use crate::progress::topics::{lane, place_of};

/// The topics of a source.
#[derive(Clone)]
pub struct ReadTopics<D> {
    /// The names and places.
    pub topics: Topics,
    /// The decoding by the place of each topic that is read.
    decodings: BTreeMap<usize, Decoding<D>>,
}

impl<D: Decode> ReadTopics<D> {
    /// Creates the list of one topic.
    pub fn one(topic: &str, decoding: Decoding<D>) -> Self {
        Self { topics: Topics::from(topic), decodings: BTreeMap::from([(0, decoding)]) }
    }

    /// Creates the list of several topics, each with its place.
    pub fn new(topics: Topics, decodings: BTreeMap<usize, Decoding<D>>) -> Self {
        Self { topics, decodings }
    }

    /// Returns the lane of a message, if its topic is among these.
    pub(super) fn lane<M: Message>(&self, message: &M) -> Option<i32> {
        let place = if self.topics.are_several() { self.topics.place(message.topic())? } else { 0 };
        lane(place, message.partition())
    }

    /// Returns the decoding of a lane's records.
    pub(super) fn decoding(&mut self, lane: i32) -> Option<&mut Decoding<D>> {
        self.decodings.get_mut(&place_of(lane))
    }

    /// Forgets which schemas the registries did not have, so that they are asked for again.
    pub(super) fn forget_missing(&mut self) {
        self.decodings.values_mut().for_each(Decoding::forget_missing);
    }
}
