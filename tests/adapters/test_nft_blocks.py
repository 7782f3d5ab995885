"""What tables consist of, as nft lists them."""

from cellwall.adapters.nftables.blocks import Block, blocks_of

LISTING = """table inet cellwall { # progname cellwall
	flags owner,persist

	map publish {
		type inet_service : verdict
		elements = { 80 : accept comment "{ a",
				81 : drop }
	}

	ct timeout soon {
		protocol tcp
	}

	chain input {
		type filter hook input priority filter; policy accept;

		tcp dport { 80, 81 } accept comment "for {web"
		udp dport 53 drop
	}
}
table ip6 nat {
	chain empty {
	}
}
"""


def test_each_part_of_each_table_is_a_block_and_what_nft_wraps_is_one_line() -> None:
    assert list(blocks_of(LISTING)) == [
        Block(
            "inet",
            "cellwall",
            "map",
            "publish",
            ("type inet_service : verdict", 'elements = { 80 : accept comment "{ a", 81 : drop }'),
        ),
        Block("inet", "cellwall", "ct timeout", "soon", ("protocol tcp",)),
        Block(
            "inet",
            "cellwall",
            "chain",
            "input",
            (
                "type filter hook input priority filter; policy accept;",
                'tcp dport { 80, 81 } accept comment "for {web"',
                "udp dport 53 drop",
            ),
        ),
        Block("ip6", "nat", "chain", "empty", ()),
    ]


def test_a_listing_of_nothing_has_none() -> None:
    assert list(blocks_of("")) == []
