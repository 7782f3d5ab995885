"""What other programs of the node have in its firewall, read and never changed but for one accept."""
