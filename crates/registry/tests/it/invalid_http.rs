//! Replies at the limits of HTTP: long and odd ones that are read, and replies that are not HTTP at all.

use std::sync::Arc;

use registry::{Descriptor, Digest, NoConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::addresses::fails_soon;
use crate::support::faults::Rule;
use crate::support::store::Upload;
use crate::support::{Fake, builder, client, location, reference, reply, run, small};

/// A server that sends `greeting` to each connection, then `answer` to the first line of each request. Returns its address.
async fn server(greeting: &'static [u8], answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                socket.write_all(greeting).await.ok()?;
                let mut asked = Vec::new();
                while socket.read_buf(&mut asked).await.ok()? > 0 {
                    if asked.ends_with(b"\r\n\r\n") {
                        let text = String::from_utf8(std::mem::take(&mut asked)).unwrap();
                        socket.write_all(&answer(text.lines().next()?)).await.ok()?;
                    }
                }
                Some(())
            });
        }
    });
    address
}

/// A reply with these lines before its body.
fn text(lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {lines}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_reply_that_is_not_http_is_reported_soon() {
    run(async {
        let headers = "200 OK".to_owned() + &"\r\nx-pad: 1".repeat(1_000);
        let headers = text(&headers, b"{}");
        let cases: Vec<(&'static [u8], Vec<u8>)> = vec![
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"Invalid SSH identification string.\r\n".to_vec()),
            (b"220 mail.example ESMTP\r\n", b"500 5.5.2 Error: bad syntax\r\n".to_vec()),
            (b"", b"<html>it works</html>".to_vec()),
            (b"", b"hello\n".to_vec()),
            (b"", b"\x15\x03\x01\x00\x02\x02\x16".to_vec()),
            (b"", b"HTTP/1.1 abc OK\r\n\r\n".to_vec()),
            (b"", headers),
            (b"", b"HTTP/1.1 200 OK\r\n".iter().chain(&vec![b'x'; 1 << 20]).copied().collect()),
        ];
        let fake = Fake::plain().await;
        for (greeting, answer) in cases {
            let what = String::from_utf8_lossy([greeting, &*answer].concat().get(..20).unwrap_or_default())
                .into_owned();
            let host = server(greeting, move |_| answer.clone()).await;
            assert_eq!(fails_soon(builder(), &format!("{host}/r:1")).await, NoConnection::NotHttp, "{what}");
            // A token service of that kind.
            let challenge = format!("Bearer realm=\"http://{host}/token\"");
            fake.on(Rule::new("HEAD", "", reply(401, &[("www-authenticate", &challenge)], "")).times(9));
            let why = fails_soon(builder(), &fake.name("r:1").to_string()).await;
            assert_eq!(why, NoConnection::NotHttp, "{what}");
        }
    });
}

#[test]
fn many_folded_and_invalid_header_lines_are_accepted() {
    run(async {
        let image = small();
        let (manifest, digest) = (image.manifest.clone(), image.digest());
        let kind = format!("200 OK\r\nContent-Type: {}", manifest.media_type());
        let many = format!("\r\nDocker-Content-Digest: {digest}") + &"\r\nx-pad: 1".repeat(197);
        for odd in [
            many.as_str(),
            "\r\nno colon at all",
            "\r\nbad name: x\r\n: nameless\r\nb\u{fc}ro: x",
            "\r\nX-Spaced : y",
            "\r\nX-Folded: a\r\n b\r\n\tc",
        ] {
            let answer = text(&format!("{kind}{odd}"), manifest.bytes());
            let host = server(b"", move |_| answer.clone()).await;
            let read = client().manifest(&reference(&format!("{host}/r:1"))).await;
            let read = read.unwrap_or_else(|error| panic!("{odd}: {error:?}"));
            assert_eq!(read.unwrap().digest(), digest, "{odd}");
        }
        // A folded challenge is read completely.
        let host = server(b"", move |asked| match asked {
            _ if asked.contains("/token?service=s&") => text("200 OK", b"{\"token\":\"t\"}"),
            _ => text("401 No\r\nWWW-Authenticate: Bearer realm=\"/token\",\r\n\tservice=\"s\"", b"asked"),
        });
        let error = client().manifest(&reference(&format!("{}/r:1", host.await))).await.unwrap_err();
        assert!(error.to_string().contains("not authorised: asked"), "{error}");
    });
}

#[test]
fn an_upload_session_with_its_state_in_the_url_is_used() {
    run(async {
        let fake = Fake::plain().await;
        let upload = Upload { repository: "r".to_owned() };
        fake.store(|store| store.uploads.insert("long".to_owned(), upload));
        let session = format!("/v2/r/blobs/uploads/long?state={}", "x".repeat(47 << 10));
        fake.on(Rule::new("POST", "", location(202, &session)));
        let blob = Descriptor::new("x", Digest::of(b"x"), 1);
        registry::blobs::push_bytes(&client(), &fake.name("r"), &blob, b"x".to_vec()).await.unwrap();
        assert!(fake.store(|store| store.contents.contains_key(&blob.digest)));
    });
}
