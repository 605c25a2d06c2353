//! The name of this machine, the instance on it, and the request to stop.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::failure::Exit;

/// The host's name, for people. `unknown` if the system does not report it.
pub fn name() -> String {
    read("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".to_owned())
}

/// The name of the instance that works on this folder. It is the same after a restart, and unique over all machines: it
/// is made of the folder (device and inode) and the kernel's boot in which the folder is locked. `None` if the system
/// does not report these.
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

/// Waits until the process is asked to stop. A second signal ends it at once.
pub async fn stopped() {
    let interrupt = tokio::signal::ctrl_c();
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        let _ = interrupt.await;
        return;
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping; a second signal ends the process at once, which is as safe as a crash");
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(i32::from(Exit::Failed.code()));
    });
}
