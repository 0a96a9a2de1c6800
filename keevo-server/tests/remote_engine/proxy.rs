//! A TCP proxy that can swallow what a server answers, and then drop the connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A proxy in front of one server.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    switch: Arc<Switch>,
}

#[derive(Default)]
struct Switch {
    swallow: AtomicBool,
    dropped: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let switch = Arc::new(Switch::default());
        let for_task = Arc::clone(&switch);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, Arc::clone(&for_task)));
            }
        });
        Self { address, switch }
    }

    /// From now on the next bytes that a server sends over any connection are swallowed, and the connection is
    /// dropped: the request got through, the answer did not.
    pub(crate) fn lose_next_answer(&self) {
        self.switch.swallow.store(true, Ordering::SeqCst);
    }

    /// How many connections were dropped.
    pub(crate) fn dropped(&self) -> usize {
        self.switch.dropped.load(Ordering::SeqCst)
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, switch: Arc<Switch>) {
    let Ok(mut upstream) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut from_server) = ([0; 16_384], [0; 16_384]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => match read {
                Ok(count) if count > 0 => {
                    if upstream.write_all(&from_client[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = upstream.read(&mut from_server) => match read {
                Ok(count) if count > 0 => {
                    if holds_data(&from_server[..count]) && switch.swallow.swap(false, Ordering::SeqCst) {
                        switch.dropped.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    if client.write_all(&from_server[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

/// Whether there is a DATA frame of HTTP/2 among the bytes, which begin with a frame: settings, acknowledgements and
/// pings are no answers.
fn holds_data(mut bytes: &[u8]) -> bool {
    const HEAD_BYTES: usize = 9;
    while let [high, middle, low, kind, ..] = *bytes {
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if kind == 0 && length > 0 {
            return true;
        }
        bytes = bytes.get(HEAD_BYTES + length..).unwrap_or_default();
    }
    false
}
