use super::*;
use crate::cli::output::Format;

fn restore(file: &Path, config: &Path) -> Result<(), Failure> {
    let output = Output { output: Format::Json };
    Restore { file: file.into(), config: config.into(), output }.run()
}

#[test]
fn what_cannot_be_restored_is_told_and_leaves_the_folder_without_a_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let backup = write("a.backup", "pingward snapshot\nand nothing of it");
    let follower = write("f.toml", "[node]\nrole = \"follower\"\n[cluster]\nsupers = [\"127.0.0.1:1\"]\n");
    let memory = write("m.toml", "[node]\nrole = \"super\"\nstorage = \"memory\"\n");
    let config = write("s.toml", "[node]\nrole = \"super\"\ndata_dir = \"data\"\n");
    for (file, config, what, usage) in [
        (&backup, &follower, "the config is a follower's", true),
        (&backup, &memory, "the config says node.storage = \"memory\"", true),
        (&backup, &config, "this is no whole backup", false),
        (&dir.path().join("none"), &config, "the backup cannot be read", false),
    ] {
        let failure = restore(file, config).unwrap_err();
        assert!(failure.what.starts_with(what) && failure.usage == usage && failure.hint.is_some(), "{failure}");
    }
    assert!(!dir.path().join("data").join("super.redb").exists());
}
