# fish completion of kubectl-shard: kubectl-shard completion fish | source
function __kubectl_shard_complete
	set -l words (commandline -opc)
	$words[1] __complete -- $words[2..-1] (commandline -ct) 2>/dev/null | string match -v ':*'
end
complete -c kubectl-shard -f -a '(__kubectl_shard_complete)'
