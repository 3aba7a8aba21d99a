//! The server that is measured, in a process of its own.

use std::{
    path::Path,
    process::{Child, Command},
};

use aibuyer_loadtest::process::Usage;

/// A server under load. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Any program that serves there.
    pub(crate) fn start(command: &mut Command, address: &str) -> Self {
        Self { child: command.spawn().unwrap(), address: address.to_owned() }
    }

    /// The engine on the models in `root`, with these settings beside.
    pub(crate) fn server(library: &Path, root: &Path, address: &str, settings: &[&str]) -> Self {
        let set = [
            format!("server.grpc_listen={address}"),
            format!("registry.path={}", root.display()),
            "server.http_listen=127.0.0.1:0".to_owned(),
            "log.level=error".to_owned(),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_aibuyer-server"));
        command.arg("serve").env("ORT_DYLIB_PATH", library);
        for set in set.iter().map(String::as_str).chain(settings.iter().copied()) {
            command.arg("--set").arg(set);
        }
        Self::start(&mut command, address)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory in use.
    pub(crate) fn resident_mb(&self) -> f64 {
        Usage::of(self.id()).map_or(f64::NAN, |u| u.resident as f64 / 1e6)
    }
}
