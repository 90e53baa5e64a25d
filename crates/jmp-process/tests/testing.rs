//! What other crates' tests rely on.
#![cfg(feature = "testing")]

use jmp_process::Command;

#[tokio::test]
async fn tests_of_other_crates_get_a_supervisor() {
    let path = jmp_process::testing::install_supervisor();
    assert!(path.is_file(), "{}", path.display());
    let output = Command::new("echo").args(["hi"]).output().await.unwrap();
    assert_eq!(output.stdout, b"hi\n");
}
