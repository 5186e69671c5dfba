"""What buyers and providers see."""
