//! `bench delay-line`: a TCP relay that forwards everything after a fixed delay, in each direction.
//!
//! The kernels of many machines lack netem. The rate limit is tbf's, on the link behind this relay. A relay cannot imitate TCP's slow start
//! over a long distance, for any client. The handshake is imitated: the first bytes of a connection wait for the round trip that opening it
//! would take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

/// Bytes in flight per connection and direction: several times what 1 Gbit/s needs in 20 ms.
const WINDOW: usize = 8 << 20;
/// Correction of the delay: the timer ends a sleep up to a millisecond late, and the relay itself takes a little time.
const TIMER: Duration = Duration::from_micros(1_000);

/// Relays from a free port, which it prints, to `to`. Does not return.
///
/// # Errors
/// It cannot listen.
pub fn run(to: SocketAddr, delay: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        crate::say(&listener.local_addr()?.to_string());
        serve(listener, to, delay).await
    })
}

async fn serve(listener: TcpListener, to: SocketAddr, delay: Duration) -> Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // An error means that one side closed the connection: both halves are dropped, so that the other side is closed too.
            let _ = connection(client, to, delay).await;
        });
    }
}

async fn connection(client: TcpStream, to: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let opened = Instant::now();
    let server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = pump(from_client, to_server, delay, opened + delay * 3);
    let back = pump(from_server, to_client, delay, opened);
    // If one direction ends, the other stays open; an error ends both.
    tokio::try_join!(there, back)?;
    Ok(())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    not_before: Instant,
) -> std::io::Result<()> {
    let window = Arc::new(Semaphore::new(WINDOW));
    let (send, mut receive) = mpsc::unbounded_channel::<(Instant, Option<(Bytes, OwnedSemaphorePermit)>)>();
    let reader = async move {
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = from.read(&mut buffer).await?;
            let due = (Instant::now() + delay.saturating_sub(TIMER)).max(not_before);
            if count == 0 {
                // The receiving end of the channel lives longer than this one.
                let _ = send.send((due, None));
                return Ok(());
            }
            let permits = u32::try_from(count).map_err(std::io::Error::other)?;
            let permit =
                Arc::clone(&window).acquire_many_owned(permits).await.map_err(std::io::Error::other)?;
            let _ = send.send((due, Some((Bytes::copy_from_slice(&buffer[..count]), permit))));
        }
    };
    let writer = async move {
        while let Some((due, part)) = receive.recv().await {
            sleep_until(due).await;
            match part {
                Some((bytes, _permit)) => to.write_all(&bytes).await?,
                None => to.shutdown().await?,
            }
        }
        Ok(())
    };
    tokio::try_join!(reader, writer).map(|_: ((), ())| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_arrive_complete_and_late_and_connecting_costs_a_round_trip() {
        let delay = Duration::from_millis(20);
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = echo.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = echo.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, to, delay));

        let started = Instant::now();
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.unwrap();
        let first = started.elapsed();
        assert!(first >= delay * 4 - TIMER * 4, "handshake and request are two round trips: {first:?}");

        let started = Instant::now();
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let (mut read, mut write) = stream.into_split();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(started.elapsed() >= delay * 2 - TIMER * 2, "{:?}", started.elapsed());
        assert!(got == expected, "every byte, in order");
    }
}
