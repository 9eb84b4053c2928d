use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::trusted::belongs_to_another;
use super::*;
use crate::base::clock::Timestamp;

#[test]
fn what_is_replaced_is_kept_under_a_name_that_nothing_else_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyring.json");
    let now = Timestamp::from_amz("20260102T030405Z").unwrap();
    for (content, name) in [
        ("one", "keyring.json.replaced-20260102T030405Z"),
        ("two", "keyring.json.replaced-20260102T030405Z-2"),
        ("three", "keyring.json.replaced-20260102T030405Z-3"),
    ] {
        write_private(&path, content.as_bytes()).unwrap();
        let kept = name_for_replaced(&path, now);
        assert_eq!(kept, dir.path().join(name));
        keep(&path, &kept).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&kept).unwrap(), content.as_bytes());
    }
    assert!(keep(&dir.path().join("missing"), &dir.path().join("kept")).is_err());
    assert!(!dir.path().join("kept").exists());
}

#[test]
fn cf_03_a_file_that_others_can_reach_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    write_private(&path, b"secret").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        read(&path, Audience::Owner, 100).unwrap().expose(),
        b"secret"
    );
    let chmod = |p: &Path, mode| fs::set_permissions(p, fs::Permissions::from_mode(mode)).unwrap();
    for (mode, audience) in [
        (0o644, Audience::Owner),
        (0o620, Audience::Owner),
        (0o664, Audience::Everyone),
        (0o646, Audience::Everyone),
    ] {
        chmod(&path, mode);
        assert!(read(&path, audience, 100).is_err(), "{mode:o}");
    }
    chmod(&path, 0o600);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(
        read(&link, Audience::Owner, 100)
            .unwrap_err()
            .to_string()
            .contains("symbolic link")
    );
    assert!(read(dir.path(), Audience::Everyone, 100).is_err());
    assert!(read(&path, Audience::Owner, 3).is_err());
    chmod(dir.path(), 0o777);
    assert!(
        read(&path, Audience::Owner, 100)
            .unwrap_err()
            .to_string()
            .contains("folder")
    );
    chmod(dir.path(), 0o700);
}

#[test]
fn a_file_of_another_account_says_who_has_to_run_the_command() {
    let as_root = belongs_to_another(995, 0);
    assert!(
        as_root.contains("must be owned by root.") && as_root.contains("runuser"),
        "{as_root}"
    );
    assert!(belongs_to_another(995, 1000).contains("must be owned by uid 1000 or root."));
}

#[test]
fn cf_03_every_folder_on_the_way_counts() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b/c");
    create_private_dir(&folder).unwrap();
    let path = folder.join("key");
    write_private(&path, b"secret").unwrap();
    assert!(read(&path, Audience::Owner, 100).is_ok());
    let chmod = |p: &Path, mode| fs::set_permissions(p, fs::Permissions::from_mode(mode)).unwrap();
    for (mode, names) in [
        (0o777, &["a", "a/b", "a/b/c"][..]),
        (0o702, &["a", "a/b", "a/b/c"]),
        (0o770, &["a/b/c"]),
    ] {
        for name in names {
            chmod(&dir.path().join(name), mode);
            let error = read(&path, Audience::Owner, 100).unwrap_err().to_string();
            assert!(
                error.contains("chmod go-w")
                    && error.contains(&dir.path().join(name).display().to_string()),
                "{error}"
            );
            chmod(&dir.path().join(name), 0o700);
        }
    }
    // With the sticky bit nobody takes away what is another's, as in /tmp.
    chmod(&dir.path().join("a"), 0o1777);
    assert!(read(&path, Audience::Owner, 100).is_ok());
    chmod(&dir.path().join("a"), 0o700);
    // By a link: the folders on both ways count.
    let open = dir.path().join("open");
    create_private_dir(&open).unwrap();
    std::os::unix::fs::symlink(&folder, open.join("link")).unwrap();
    let linked = open.join("link/key");
    assert!(read(&linked, Audience::Owner, 100).is_ok());
    for folder in [&open, &dir.path().join("a/b")] {
        chmod(folder, 0o777);
        assert!(
            read(&linked, Audience::Owner, 100).is_err(),
            "{}",
            folder.display()
        );
        chmod(folder, 0o700);
    }
}

#[test]
fn cf_03_a_log_under_two_names_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (key, log) = (
        dir.path().join("master.key"),
        dir.path().join("audit.jsonl"),
    );
    write_private(&key, b"secret").unwrap();
    fs::hard_link(&key, &log).unwrap();
    let error = open_log(&log).unwrap_err().to_string();
    assert!(error.contains("hard link"), "{error}");
    fs::remove_file(&log).unwrap();
    assert!(open_log(&log).is_ok());
    assert_eq!(fs::read(&key).unwrap(), b"secret");
}

#[test]
fn an_error_after_the_rename_says_that_the_new_content_is_in_place() {
    let error = super::private::in_place(&std::io::Error::from(std::io::ErrorKind::StorageFull));
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("the new content is in place"));
}
