//! The state that survives any loss of power.

use std::path::{Component, Path};

use super::{MemoryDisk, Node};

impl MemoryDisk {
    /// Returns the bytes of a file that survive any loss of power. `None` if its name, one of its folders, or the end
    /// of its content is not durable.
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
