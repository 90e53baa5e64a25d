//! Fills a data directory: objects are written straight into the store, many at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jmp_auth::IdentityKeys;
use jmp_store::{Options, SqliteStore, Store, StoreExt, Write};
use jmp_types::Timestamp;
use jmp_types::resource::{
    Client, Condition, CredentialRecord, Exporter, GoDuration, Lease, Metadata, Reference,
};

use crate::lab::{CLIENT, CLIENT_NUMBER, NAMESPACE, Outcome, PLAYING, exporter_name, uid};

/// Writes that are asked for at once.
const AT_ONCE: usize = 1000;

pub async fn seed(data: &Path, exporters: usize, playing: usize, ended: usize) -> Outcome<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)?;
    IdentityKeys::open(&data.join("identity.key"))?;
    let store = SqliteStore::open(data.join("store.sqlite"), &Options::default())?;
    store.create(&client()).await?;
    let objects = (0..exporters).map(|number| Write::create(&exporter(number, number < playing)));
    write(&store, objects).await?;
    write(
        &store,
        (0..ended).map(|number| Write::create(&lease(number))),
    )
    .await?;
    store.close().await;
    Ok(())
}

async fn write(
    store: &SqliteStore,
    writes: impl Iterator<Item = Result<Write, jmp_store::StoreError>>,
) -> Outcome<()> {
    let writes: Vec<Write> = writes.collect::<Result<_, _>>()?;
    for some in writes.chunks(AT_ONCE) {
        for written in store.apply(some.to_vec()).await {
            written?;
        }
    }
    Ok(())
}

fn metadata(name: String, number: usize) -> Metadata {
    Metadata {
        name,
        namespace: NAMESPACE.to_owned(),
        uid: uid(number),
        creation_timestamp: Some(Timestamp::now()),
        generation: 1,
        ..Metadata::default()
    }
}

fn credential(name: &str) -> CredentialRecord {
    CredentialRecord {
        name: name.to_owned(),
        generation: 1,
        ..CredentialRecord::default()
    }
}

fn client() -> Client {
    let mut client = Client {
        metadata: metadata(CLIENT.to_owned(), CLIENT_NUMBER),
        ..Client::default()
    };
    client.status.credential = credential("bench-client");
    client
}

fn exporter(number: usize, playing: bool) -> Exporter {
    let name = exporter_name(number);
    let mut exporter = Exporter {
        metadata: metadata(name.clone(), number),
        ..Exporter::default()
    };
    let mut labels = BTreeMap::from([("rack".to_owned(), format!("rack-{}", number / 40))]);
    if playing {
        labels.insert(PLAYING.0.to_owned(), PLAYING.1.to_owned());
    }
    exporter.metadata.labels = labels;
    exporter.status.credential = credential(&format!("{name}-exporter"));
    exporter
}

fn lease(number: usize) -> Lease {
    let now = Timestamp::now();
    let begin = now - Duration::from_secs(3600);
    let mut lease = Lease {
        metadata: metadata(format!("ended-{number:06}"), CLIENT_NUMBER - 1 - number),
        ..Lease::default()
    };
    lease.spec.client_ref = Reference::new(CLIENT);
    lease.spec.duration = Some(GoDuration(Duration::from_secs(1800)));
    lease
        .spec
        .selector
        .match_labels
        .insert(PLAYING.0.to_owned(), PLAYING.1.to_owned());
    lease.status.ended = true;
    lease.status.begin_time = Some(begin);
    lease.status.end_time = Some(now - Duration::from_secs(1800));
    lease.status.exporter_ref = Some(Reference::new(exporter_name(number % 50)));
    lease.status.conditions = [("Pending", "False"), ("Ready", "False")]
        .map(|(kind, status)| Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: "Released".to_owned(),
            message: "The lease was marked for release".to_owned(),
            last_transition_time: begin,
            observed_generation: 1,
        })
        .into();
    lease
}
