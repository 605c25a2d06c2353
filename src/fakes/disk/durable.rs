//! What a loss of power cannot take.

use std::path::{Component, Path};

use super::{MemoryDisk, Node};

impl MemoryDisk {
    /// What is certain to be there of a file whenever power is lost: nothing where its name, or one of the folders that it is
    /// in, or the end of its content is not durable.
    pub fn durable(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let mut at = 0;
        for part in path.components() {
            if let Component::Normal(name) = part {
                match state.nodes.get(at) {
                    Some(Node::Folder { durable, .. }) => at = *durable.get(name.to_str()?)?,
                    _ => return None,
                }
            }
        }
        match state.nodes.get(at) {
            Some(Node::File { durable, visible }) if durable == visible => Some(durable.clone()),
            _ => None,
        }
    }
}
