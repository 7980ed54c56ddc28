//! Listens with eventsource-client.

use std::time::Duration;

use eventsource_client::{Client, ClientBuilder, Error, SSE};
use futures::StreamExt;
use report::{arguments, opened, refused};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (url, token, is_alone) = arguments();
    if is_alone {
        alone(&url, &token).await
    } else {
        listen(&url, &token).await
    }
}

async fn listen(url: &str, token: &str) -> Result<(), Error> {
    let client = ClientBuilder::for_url(url)?
        .header("Authorization", &format!("Bearer {token}"))?
        .read_timeout(Duration::from_secs(45))
        .build_http();
    let mut stream = client.stream();
    while let Some(heard) = stream.next().await {
        match heard {
            Ok(SSE::Connected(_)) => opened(),
            Ok(SSE::Event(event)) => handle(event),
            Err(Error::UnexpectedResponse(answer, _)) if matches!(answer.status(), 204 | 401) => {
                refused(answer.status());
                break;
            }
            _ => {} // Comments, and errors after which it comes back by itself.
        }
    }
    Ok(())
}

fn handle(event: eventsource_client::Event) {
    report::event(&event.event_type, &event.data, event.id.as_deref().unwrap_or_default());
}

async fn alone(url: &str, token: &str) -> Result<(), Error> {
    let client = ClientBuilder::for_url(url)?
        .header("Authorization", &format!("Bearer {token}"))?
        .build_http();
    let mut stream = client.stream();
    while let Some(heard) = stream.next().await {
        match heard {
            Ok(SSE::Connected(_)) => opened(),
            Ok(SSE::Event(event)) => handle(event),
            _ => {}
        }
    }
    Ok(())
}
