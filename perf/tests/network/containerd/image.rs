//! What containers are made of: programs of Debian packages, and an image of busybox alone.

use ringway_perf::lab::{LabError, run};
use std::path::{Path, PathBuf};

/// Name of the image.
pub(super) const IMAGE: &str = "ringway.test/busybox:lab";
/// What its web server answers.
pub(super) const PAGE: &str = "a page from a container";

/// Programs of Debian packages: `RINGWAY_DEBS`, else what `scripts/unpack.sh` has left beside the build.
pub(super) fn packages() -> Option<PathBuf> {
    let beside = || {
        let own = std::env::current_exe().ok()?;
        Some(own.ancestors().nth(3)?.join("debs"))
    };
    let folder = std::env::var_os("RINGWAY_DEBS").map_or_else(beside, |path| Some(path.into()))?;
    let whole = [
        "containerd/usr/bin/containerd",
        "runc/usr/sbin/runc",
        "busybox-static/bin/busybox",
    ];
    whole
        .iter()
        .all(|file| folder.join(file).is_file())
        .then_some(folder)
}

/// The plugin for `lo`, which a CRI calls besides ours; of Debian's reference plugins.
pub(super) fn loopback(packages: &Path) -> Option<PathBuf> {
    let unpacked = packages.join("containernetworking-plugins/usr/lib/cni/loopback");
    unpacked.is_file().then_some(unpacked)
}

/// An image of busybox alone, as an archive `ctr image import` reads.
pub(super) fn make_image(packages: &Path, folder: &Path) -> Result<PathBuf, LabError> {
    let script = r#"
mkdir -p "$2/root/bin" "$2/root/www"
for folder in proc sys dev etc tmp run; do mkdir -p "$2/root/$folder"; done
cp "$1/busybox-static/bin/busybox" "$2/root/bin/"
for tool in httpd ip ping timeout wget; do ln -sf busybox "$2/root/bin/$tool"; done
printf '%s' "$3" >"$2/root/www/index.html"
tar -C "$2/root" -cf "$2/layer.tar" .
sum=$(sha256sum "$2/layer.tar" | cut -d' ' -f1)
printf '{"architecture":"%s","os":"linux","config":{"Cmd":["/bin/httpd","-f","-p","80","-h","/www"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$5" "$sum" >"$2/config.json"
printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$4" >"$2/manifest.json"
tar -C "$2" -cf "$2/image.tar" manifest.json config.json layer.tar
"#;
    let image = folder.join("image");
    let (from, to) = (packages.display().to_string(), image.display().to_string());
    // Go's names of architectures.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    run(
        "sh",
        &[
            "-ec",
            script,
            "image",
            &from,
            &to,
            PAGE,
            IMAGE,
            architecture,
        ],
    )?;
    Ok(image.join("image.tar"))
}
