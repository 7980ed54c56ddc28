//! Listens with reqwest-eventsource, which needs nothing beside it.

use std::time::Duration;

use eventsource_stream::Event as MessageEvent;
use futures::StreamExt;
use report::{arguments, lost, opened, refused};
use reqwest_eventsource::{Error, Event, EventSource};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (url, token, _) = arguments();
    let client = reqwest::Client::builder().read_timeout(Duration::from_secs(45)).build()?;
    let mut source = EventSource::new(client.get(url).bearer_auth(token))?;
    while let Some(heard) = source.next().await {
        match heard {
            Ok(Event::Open) => opened(),
            Ok(Event::Message(event)) => handle(event),
            Err(Error::InvalidStatusCode(status, _)) => refused(status.as_u16()), // The end.
            Err(_) => lost(), // It comes back by itself.
        }
    }
    Ok(())
}

fn handle(event: MessageEvent) {
    report::event(&event.event, &event.data, &event.id);
}
