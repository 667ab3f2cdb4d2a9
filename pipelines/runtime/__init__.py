"""What every Beam job needs: launch, failure, processes, decoding, progress."""
