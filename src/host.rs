//! Which machine this is, and which instance on it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The host's name, for people; `unknown` where the system does not say.
pub fn name() -> String {
    read("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".to_owned())
}

/// The name of the instance that works on this folder: the same after a restart, and no other's on any machine. So it is
/// the folder itself (device and inode) and the run of the kernel that it is locked in. `None` where the system does not
/// tell.
pub fn instance(folder: &Path) -> Option<String> {
    let boot = read("/proc/sys/kernel/random/boot_id")?;
    let folder = std::fs::metadata(folder).ok()?;
    let text = format!("{boot}:{}:{}", folder.dev(), folder.ino());
    Some(format!("tripline-{}", uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes()).simple()))
}

fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
