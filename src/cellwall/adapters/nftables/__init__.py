"""nf_tables: rules as text by nft, elements and everything an owner writes over one socket."""
