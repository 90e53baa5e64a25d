//! The faults of the store in memory.

use jmp_store::{MemoryStore, StoreError, StoreExt, Unanswered};
use jmp_types::resource::Exporter;

use crate::content::{exporter, key};

#[tokio::test]
async fn writes_and_reads_fail_on_demand() {
    let store = MemoryStore::new();
    store.fail_writes(1, StoreError::Full("the disk".into()));
    let error = store.create(&exporter("one")).await.expect_err("fails");
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    store.create(&exporter("one")).await.expect("was not kept");
    store.fail_reads(1, StoreError::Full("the disk".into()));
    assert!(store.get::<Exporter>(&key("one")).await.is_err());
    assert!(store.get::<Exporter>(&key("one")).await.is_ok());
}

#[tokio::test]
async fn a_crash_keeps_what_was_answered() {
    for (unanswered, expected) in [(Unanswered::Lost, 2), (Unanswered::Kept, 3)] {
        let store = MemoryStore::new();
        store.crash_after(2, unanswered);
        let mut answered = 0;
        for name in ["a", "b", "c", "d"] {
            match store.create(&exporter(name)).await {
                Ok(_) => answered += 1,
                Err(error) => assert!(matches!(error, StoreError::Closed), "{error}"),
            }
        }
        assert_eq!(answered, 2);
        assert!(store.is_crashed());
        assert!(store.get::<Exporter>(&key("a")).await.is_err());
        let again = store.reopen();
        let mut found = 0;
        for name in ["a", "b", "c", "d"] {
            found += usize::from(
                again
                    .get::<Exporter>(&key(name))
                    .await
                    .expect("is read")
                    .is_some(),
            );
        }
        assert_eq!(found, expected, "{unanswered:?}");
        again.create(&exporter("e")).await.expect("works again");
    }
}
