//! Names are resolved here, and only open addresses come out.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use host_domain::plugin::AddressRange;
use reqwest::dns::{Name, Resolve};

use super::{AddressRefused, CheckedResolver, Clients, Injected, Reach, receive, unsent};
use crate::bindings::shared::bellwether::host::http::HttpError;

async fn resolve(
    name: &str,
    ranges: &[AddressRange],
) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let resolver = CheckedResolver {
        ranges: ranges.to_vec(),
    };
    let name: Name = name.parse().unwrap();
    Ok(resolver.resolve(name).await?.count())
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused_unless_granted() {
    let refused = resolve("localhost", &[]).await.unwrap_err();
    assert!(refused.is::<AddressRefused>(), "{refused}");
    assert!(refused.to_string().contains("loopback"), "{refused}");
    let refused = resolve("localhost", &[AddressRange::Private])
        .await
        .unwrap_err();
    assert!(refused.is::<AddressRefused>(), "{refused}");
    assert!(
        resolve("localhost", &[AddressRange::Loopback])
            .await
            .unwrap()
            > 0
    );
}

/// Answers one request with `answer` and ends.
fn server(answer: String) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        // The client hangs up when the answer is too large for it.
        let _sent = stream.write_all(answer.as_bytes());
    });
    (port, thread)
}

#[tokio::test]
async fn the_refusal_survives_the_client() {
    let client = Clients::default().client(&Reach::Name(vec![])).unwrap();
    let error = client.get("http://localhost:9/").send().await.unwrap_err();
    let HttpError::Denied(reason) = unsent("http://localhost:9", &error) else {
        panic!("{error:?}")
    };
    assert!(reason.contains("loopback"), "{reason}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_a_body_is_bounded() {
    let client = Clients::default().client(&Reach::Node).unwrap();
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let (port, thread) = server(redirect.to_owned());
    let sent = client
        .get(format!("http://127.0.0.1:{port}/"))
        .send()
        .await
        .unwrap();
    let answer = receive("node:rpc", sent, 10, &Injected::default())
        .await
        .unwrap();
    assert_eq!(answer.status, 302);
    thread.join().unwrap();

    for (length, body_max, is_taken) in [(10, 10, true), (11, 10, false), (1 << 20, 10, false)] {
        let (port, thread) = server(format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
            "x".repeat(length)
        ));
        let sent = client
            .get(format!("http://127.0.0.1:{port}/"))
            .send()
            .await
            .unwrap();
        let answer = receive("node:rpc", sent, body_max, &Injected::default()).await;
        assert_eq!(answer.is_ok(), is_taken, "{length}");
        if !is_taken {
            assert!(matches!(answer, Err(HttpError::TooLarge(10))));
        }
        thread.join().unwrap();
    }
}
