"""What only an eBPF program can say: it reads of a packet what no rule of nft or iptables has a word for."""
