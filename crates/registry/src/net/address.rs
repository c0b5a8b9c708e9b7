//! IP addresses that a registry may not redirect us to.

use std::net::{IpAddr, Ipv4Addr};

/// Whether no registry may redirect us to the address: link-local and multicast ones, and those of clouds' metadata services,
/// which hold a machine's credentials:
/// [AWS](https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html),
/// [Google](https://cloud.google.com/compute/docs/metadata/overview),
/// [Azure](https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16),
/// [Alibaba](https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata).
pub(crate) fn is_forbidden_address(address: IpAddr) -> bool {
    match embedded(address) {
        IpAddr::V4(address) => {
            let is_metadata = matches!(address.octets(), [168, 63, 129, 16] | [100, 100, 100, 200]);
            is_metadata
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
        }
        IpAddr::V6(address) => {
            let is_metadata = matches!(address.segments(), [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..]);
            is_metadata
                || address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast()
        }
    }
}

/// Whether the address is of this machine, of a private network, or reserved.
pub(crate) fn is_private_address(address: IpAddr) -> bool {
    let is_inside = match embedded(address) {
        IpAddr::V4(address) => {
            let is_shared = matches!(address.octets(), [100, 64..=127, _, _]);
            let is_this_network = matches!(address.octets(), [0, _, _, _]);
            address.is_private() || address.is_loopback() || is_shared || is_this_network
        }
        IpAddr::V6(address) => address.is_unique_local(),
    };
    is_inside || is_forbidden_address(address)
}

/// The IPv4 address that an IPv6 one leads to: a mapped or compatible one, or one behind
/// [NAT64's well-known prefix](https://www.rfc-editor.org/rfc/rfc6052#section-2.1). `::1` is one, too: 0.0.0.1.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => v6.to_ipv4().map_or(address, IpAddr::V4),
    }
}
