//! What every lamp does: run a client of yours through [`check`].

use futures::StreamExt;
use jmp_driver::{ByteReader, ErrorKind};
use jmp_interfaces::resource::Source;

use crate::interface::LampClient;

/// Runs all checks. The lamp flickers and is dark afterwards.
///
/// # Panics
///
/// If one of them fails.
pub async fn check(lamp: &LampClient) {
    brightness_is_kept(lamp).await;
    too_much_is_refused(lamp).await;
    every_watcher_sees_changes(lamp).await;
    patterns_are_played(lamp).await;
}

async fn brightness_is_kept(lamp: &LampClient) {
    for percent in [0, 1, 50, 100] {
        lamp.set(percent).await.expect("0 to 100 can be set");
        assert_eq!(lamp.get().await.expect("can be told"), percent);
    }
}

async fn too_much_is_refused(lamp: &LampClient) {
    lamp.set(10).await.expect("can be set");
    let error = lamp.set(101).await.expect_err("101 is too much");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(lamp.get().await.expect("can be told"), 10);
}

async fn every_watcher_sees_changes(lamp: &LampClient) {
    lamp.set(20).await.expect("can be set");
    let mut first = lamp.watch().await.expect("can be watched");
    let mut second = lamp.watch().await.expect("can be watched twice");
    for watcher in [&mut first, &mut second] {
        let now = watcher.next().await.expect("starts").expect("with a value");
        assert_eq!(now, 20);
    }
    lamp.set(30).await.expect("can be set");
    for watcher in [&mut first, &mut second] {
        let next = watcher
            .next()
            .await
            .expect("goes on")
            .expect("with a value");
        assert_eq!(next, 30);
    }
}

async fn patterns_are_played(lamp: &LampClient) {
    let pattern = |text: &'static str| {
        let reader: ByteReader = Box::pin(futures::stream::iter([Ok(text.into())]));
        Source::Stream(reader, None)
    };
    let steps = lamp.play_from(pattern("70 1\n0 1\n"), 2).await;
    assert_eq!(steps.expect("can be played"), 4);
    assert_eq!(lamp.get().await.expect("can be told"), 0);
    let error = lamp.play_from(pattern("70 1\nbright\n"), 1).await;
    let error = error.expect_err("the second line makes no sense");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("line 2"), "{error}");
}
