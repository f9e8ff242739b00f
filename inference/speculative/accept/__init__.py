"""Accept rules, one file each: which draft tokens become output."""
