//! A connection's bytes, in fewer system calls than HTTP/2 makes of them.
//!
//! h2 writes a reply of 256 bytes and more straight from its message, and then its trailers by a second call; over a
//! stream that takes no lists of slices it copies up to 1 KiB, and all that is ready leaves at once. It reads into
//! what is left of 8 KiB, which cuts requests in two; here each call takes all that has come, up to [`READ`].

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Bytes read by one call.
const READ: usize = 16 << 10;
/// Bytes that wait for those after them, or for the flush: the heads of larger replies.
const HELD: usize = 1 << 10;

/// A stream with a buffer on either side.
#[derive(Debug)]
pub(crate) struct Link<S> {
    stream: S,
    /// What was read; of it `taken..came` is still to be handed on.
    read: Box<[u8]>,
    taken: usize,
    came: usize,
    /// What is to be written; of it `sent` bytes have been.
    held: Vec<u8>,
    sent: usize,
}

impl<S> Link<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            read: vec![0; READ].into_boxed_slice(),
            taken: 0,
            came: 0,
            held: Vec::with_capacity(HELD),
            sent: 0,
        }
    }
}

impl<S: AsyncWrite + Unpin> Link<S> {
    /// Writes what is held, and in the same call as much of `more` as fits; how much of it did.
    fn send(&mut self, cx: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while self.sent < self.held.len() {
            let held = &self.held[self.sent..];
            let slices = [IoSlice::new(held), IoSlice::new(more)];
            let n = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_more = n.saturating_sub(held.len());
            self.sent += n - of_more;
            if of_more > 0 {
                self.held.clear();
                self.sent = 0;
                return Poll::Ready(Ok(of_more));
            }
        }
        self.held.clear();
        self.sent = 0;
        if more.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.stream).poll_write(cx, more)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Link<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        if link.taken == link.came {
            if out.remaining() >= READ {
                return Pin::new(&mut link.stream).poll_read(cx, out);
            }
            let mut read = ReadBuf::new(&mut link.read);
            ready!(Pin::new(&mut link.stream).poll_read(cx, &mut read))?;
            (link.taken, link.came) = (0, read.filled().len());
        }
        let n = out.remaining().min(link.came - link.taken);
        out.put_slice(&link.read[link.taken..link.taken + n]);
        link.taken += n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Link<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let link = self.get_mut();
        if link.held.len() + bytes.len() <= HELD {
            link.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        link.send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        ready!(link.send(cx, &[]))?;
        Pin::new(&mut link.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        ready!(link.send(cx, &[]))?;
        Pin::new(&mut link.stream).poll_shutdown(cx)
    }

    /// No, so that h2 copies small messages and sends them in one piece.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

impl<S: Connected> Connected for Link<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Notes each call; takes and gives at most `most` bytes in one.
    #[derive(Default)]
    struct Wire {
        most: usize,
        input: Vec<u8>,
        reads: usize,
        writes: Vec<Vec<u8>>,
    }

    impl AsyncRead for Wire {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let wire = self.get_mut();
            wire.reads += 1;
            let n = out.remaining().min(wire.most).min(wire.input.len());
            out.put_slice(&wire.input.drain(..n).collect::<Vec<_>>());
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }
        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let wire = self.get_mut();
            let taken: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(wire.most).collect();
            wire.writes.push(taken.clone());
            Poll::Ready(Ok(taken.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|i| u8::try_from(i % 251).unwrap_or_default()).collect()
    }

    fn write(link: &mut Link<Wire>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Poll::Ready(Ok(n)) = Pin::new(&mut *link).poll_write(&mut cx(), bytes) else { panic!("not written") };
            bytes = &bytes[n..];
        }
    }

    fn flush(link: &mut Link<Wire>) {
        assert!(matches!(Pin::new(link).poll_flush(&mut cx()), Poll::Ready(Ok(()))));
    }

    #[test]
    fn what_is_written_before_a_flush_leaves_in_one_call() {
        let mut link = Link::new(Wire { most: usize::MAX, ..Wire::default() });
        write(&mut link, b"head");
        write(&mut link, b"trailers");
        assert!(link.stream.writes.is_empty());
        flush(&mut link);
        flush(&mut link);
        assert_eq!(link.stream.writes, [b"headtrailers"]);
        write(&mut link, b"head");
        write(&mut link, &bytes(5000));
        assert_eq!(link.stream.writes.len(), 2, "a head and its large message, too");
    }

    #[test]
    fn bytes_keep_their_order_however_few_the_socket_takes() {
        for most in [1, 3, 700, 1024, 4096] {
            let mut link = Link::new(Wire { most, ..Wire::default() });
            let mut all = Vec::new();
            for n in [9, 300, 1000, 1, 1024, 1025, 5000, 17] {
                write(&mut link, &bytes(n));
                all.extend(bytes(n));
            }
            flush(&mut link);
            assert_eq!(link.stream.writes.concat(), all, "{most} bytes a call");
        }
    }

    #[test]
    fn one_read_takes_all_that_has_come_and_is_handed_on_in_pieces() {
        let mut link = Link::new(Wire { most: usize::MAX, input: bytes(READ), ..Wire::default() });
        let mut all = Vec::new();
        while all.len() < READ {
            let mut room = [0; 1000];
            let mut out = ReadBuf::new(&mut room);
            assert!(matches!(Pin::new(&mut link).poll_read(&mut cx(), &mut out), Poll::Ready(Ok(()))));
            all.extend_from_slice(out.filled());
        }
        assert_eq!((all, link.stream.reads), (bytes(READ), 1));
    }
}
