//! The network configuration list a runtime reads.

use serde_json::json;

use ringway_config::Config;
use ringway_control::PENDING;

/// Its file name: sorts before Flannel's `10-flannel.conflist`.
pub const CONFLIST: &str = "05-ringway.conflist";

/// The list. Old runtimes read `cniVersion`; new ones take the highest of `cniVersions`, which lets them ask
/// for the plugin's status.
pub fn conflist(config: &Config) -> String {
    let value = json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        "name": "ringway",
        "plugins": [{
            "type": super::PLUGIN,
            "socket": config.node.socket,
            "pendingDir": config.node.state_dir.join(PENDING),
            "capabilities": {
                "portMappings": true,
                "bandwidth": true,
                "ips": true,
                "mac": true,
                "dns": true,
                "io.kubernetes.cri.pod-annotations": true,
            },
        }],
    });
    format!("{value:#}\n")
}
