//! The topics of a source, and how the records of each are decoded.

use std::collections::BTreeMap;

use rdkafka::message::Message;

use super::decoding::Decoding;
use crate::change::Decode;
use crate::progress::Topics;
use crate::progress::topics::{lane, place_of};

/// The topics of a source.
#[derive(Clone)]
pub struct ReadTopics<D> {
    /// Their names and places.
    pub topics: Topics,
    /// By the place of each topic that is read.
    decodings: BTreeMap<usize, Decoding<D>>,
}

impl<D: Decode> ReadTopics<D> {
    /// One topic.
    pub fn one(topic: &str, decoding: Decoding<D>) -> Self {
        Self { topics: Topics::from(topic), decodings: BTreeMap::from([(0, decoding)]) }
    }

    /// Several, each with its place.
    pub fn new(topics: Topics, decodings: BTreeMap<usize, Decoding<D>>) -> Self {
        Self { topics, decodings }
    }

    /// The lane of a message, where it is of one of them.
    pub(super) fn lane<M: Message>(&self, message: &M) -> Option<i32> {
        let place = if self.topics.are_several() { self.topics.place(message.topic())? } else { 0 };
        lane(place, message.partition())
    }

    /// How records of a lane are decoded.
    pub(super) fn decoding(&mut self, lane: i32) -> Option<&mut Decoding<D>> {
        self.decodings.get_mut(&place_of(lane))
    }

    /// Schemas that the registry did not have are asked for again.
    pub(super) fn forget_missing(&mut self) {
        self.decodings.values_mut().for_each(Decoding::forget_missing);
    }
}
