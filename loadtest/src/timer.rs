//! Waits that end on time. Tokio's own timer counts in milliseconds, and a thread that sleeps costs two more switches
//! for each call.

#[cfg(target_os = "linux")]
pub(crate) use linux::Timer;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::Timer;

#[cfg(target_os = "linux")]
mod linux {
    use std::{io, os::fd::OwnedFd, time::Duration};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::{Interest, unix::AsyncFd};

    /// A timer of the kernel's, exact to tens of microseconds.
    #[derive(Debug)]
    pub(crate) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        // Deprecated because a descriptor may be closed behind the registration's back; `OwnedFd` never lets go of its own.
        #[allow(deprecated)]
        pub(crate) fn new() -> io::Result<Self> {
            let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            AsyncFd::with_interest(fd, Interest::READABLE).map(Self)
        }

        /// Waits for `duration`, which is above zero.
        pub(crate) async fn wait(&mut self, duration: Duration) -> io::Result<()> {
            let it_value = Timespec::try_from(duration).map_err(io::Error::other)?;
            let once = Itimerspec { it_interval: Timespec::default(), it_value };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
            // Not read: setting it again clears it.
            self.0.readable().await?.clear_ready();
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::{io, time::Duration};

    /// Tokio's timer: calls leave up to a millisecond late, which the send lag shows.
    #[derive(Debug)]
    pub(crate) struct Timer;

    impl Timer {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(crate) async fn wait(&mut self, duration: Duration) -> io::Result<()> {
            tokio::time::sleep(duration).await;
            Ok(())
        }
    }
}
