//! The threads that speak gRPC: each has a runtime, a stack and connections of its own.
//!
//! A request is read, handled and answered on one thread. Against one runtime that moves tasks between its threads
//! this saves the moves and the wakes that come with them; what it gives up is that a busy thread's connections wait
//! for it. Clients of many requests should open several connections: each is handed to the next thread in turn.

use std::{io, net, thread, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::transport::server::Router;

use aibuyer_loader::threads::before_sleep;

use crate::{link::Link, stack::Layers};

/// Running threads. Dropping it cuts off what is under way.
#[derive(Debug)]
pub(crate) struct Shards {
    /// Closed when the last thread has ended.
    ended: mpsc::Receiver<()>,
    accepting: JoinHandle<()>,
    _cut: watch::Sender<()>,
}

impl Shards {
    /// Serves each router on a thread of its own. Once `stopped` fires no more connections are taken and those
    /// there are finish what they are at.
    pub(crate) fn serve<S>(
        listener: TcpListener,
        routers: Vec<Router<Layers>>,
        stopped: impl Fn() -> S,
    ) -> io::Result<Self>
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let (cut, is_cut) = watch::channel(());
        let (running, ended) = mpsc::channel(1);
        let mut shards = Vec::new();
        for (i, router) in routers.into_iter().enumerate() {
            let (hand, connections) = mpsc::unbounded_channel();
            let (stopped, mut is_cut, running) = (stopped(), is_cut.clone(), running.clone());
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.on_thread_park(before_sleep).enable_all().build()?;
            thread::Builder::new().name(format!("grpc#{i}")).spawn(move || {
                runtime.block_on(async {
                    let incoming =
                        UnboundedReceiverStream::new(connections).map(|c| TcpStream::from_std(c).map(Link::new));
                    tokio::select! {
                        result = router.serve_with_incoming_shutdown(incoming, stopped) => {
                            if let Err(error) = result {
                                tracing::error!(%error, "gRPC server failed");
                            }
                        }
                        _ = is_cut.changed() => {}
                    }
                });
                runtime.shutdown_background();
                drop(running);
            })?;
            shards.push(hand);
        }
        let stopped = stopped();
        let accepting = tokio::spawn(async move {
            tokio::select! {
                () = accept(listener, shards) => {}
                () = stopped => {}
            }
        });
        Ok(Self { ended, accepting, _cut: cut })
    }

    /// Waits until every connection is finished.
    pub(crate) async fn finished(&mut self) {
        while self.ended.recv().await.is_some() {}
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Hands connections to the shards in turn, until one is gone: they stop together.
async fn accept(listener: TcpListener, shards: Vec<mpsc::UnboundedSender<net::TcpStream>>) {
    for shard in shards.iter().cycle() {
        let connection = loop {
            // A reply is one small write: never wait for more to fill a packet.
            match listener.accept().await.and_then(|(c, _)| c.set_nodelay(true).and_then(|()| c.into_std())) {
                Ok(connection) => break connection,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of file descriptors, most likely: trying again at once would only burn the processor.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        if shard.send(connection).is_err() {
            return;
        }
    }
}
